"""The evaluate modules work without a network, alone and combined."""

from __future__ import annotations

import pytest
import sacrebleu

from harness.errors import InputError
from harness.metrics.evaluate_modules import load

REPLIES = ["Rest and drink water.", "Take ibuprofen, 400 mg, with food."]
REFERENCES = ["Rest in bed and drink water.", "Take 400 mg of ibuprofen with food."]


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_METRICS_CACHE", str(tmp_path))


def test_alone_they_give_the_libraries_values() -> None:
    rouge = load("rouge").compute(predictions=REPLIES, references=REFERENCES)
    assert set(rouge) == {"rouge1", "rouge2", "rougeL", "rougeLsum"}
    bleu = load("bleu").compute(predictions=REPLIES, references=REFERENCES)
    assert bleu["bleu"] == pytest.approx(sacrebleu.corpus_bleu(REPLIES, [REFERENCES]).score)
    chrf = load("chrf").compute(predictions=REPLIES, references=REFERENCES)
    assert chrf["chrf"] == pytest.approx(sacrebleu.corpus_chrf(REPLIES, [REFERENCES], word_order=2).score)


def test_combined_they_give_all_values_at_once() -> None:
    import evaluate

    combined = evaluate.combine([load("rouge", stemmer=True), load("bleu"), load("chrf")])
    found = combined.compute(predictions=REPLIES, references=REFERENCES)
    assert {"rouge1", "rougeLsum", "bleu", "chrf", "bleu_signature"} <= set(found)
    assert 0 < found["rouge1"] <= 1


def test_an_unknown_name_is_an_input_error() -> None:
    with pytest.raises(InputError, match="Did you mean 'rouge'"):
        load("rogue")
