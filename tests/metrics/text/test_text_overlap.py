"""ROUGE, BLEU and chrF++ must be the libraries' own numbers, only sooner."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from harness.metrics.registry import Item, Metric
from harness.metrics.text import subsequence
from harness.metrics.text.bleu import Bleu, tokenize_13a
from harness.metrics.text.chrf import Chrf
from harness.metrics.text.rouge import Rouge
from tests.shared_data import shared

SACREBLEU = sacrebleu.BLEU()
KINDS = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
ODD_TEXTS = [
    "",
    " \n ",
    "...!?",
    "one",
    "Take 1,000 mg (not 10.5 g) -- e.g. at 8:00 a.m., twice-\ndaily.",
    "&quot;Rest&quot; &amp; fluids &lt;skipped&gt; <skipped>",
    "ÄRZTE İstanbul ΣΊΣΥΦΟΣ straße 37°C K",
    "שלום مرحبا 😀😀 \u202e x \x00 y",
    "half a \ud800 surrogate",
    "a\n\nb c\n- d e\n- d e\n",
]


def random_text(rng: random.Random, words: str, longest: int, breaks: float) -> str:
    size = rng.randrange(longest)
    return "".join(rng.choice(words) + ("\n" if rng.random() < breaks else " ") for _ in range(size))


def pairs(seed: int = 0) -> list[tuple[str, str]]:
    rng = random.Random(seed)
    made = [(random_text(rng, "abcd", 30, 0.3), random_text(rng, "abcd", 30, 0.3)) for _ in range(150)]
    made += [(random_text(rng, "abcdefghij", 60, 0.1), random_text(rng, "abcdefghij", 60, 0.1)) for _ in range(50)]
    return made + [(first, second) for first in ODD_TEXTS for second in ODD_TEXTS]


def items(texts: list[tuple[str, str]]) -> list[Item]:
    return [Item(str(number), "", reference, reply) for number, (reference, reply) in enumerate(texts)]


def corpus_value(metric: Metric, texts: list[tuple[str, str]]) -> float:
    spec = metric.specs[0]
    assert spec.combine is not None
    counts = np.array([scores.statistics[spec.name] for scores in metric.score(items(texts))])
    return float(spec.combine(counts.sum(axis=0)))


@pytest.mark.parametrize("stemmer", [False, True])
def test_rouge_equals_rouge_score(stemmer: bool) -> None:
    theirs = RougeScorer(KINDS, use_stemmer=stemmer)
    ours = Rouge(stemmer)
    for reference, reply in pairs():
        expected = [score.fmeasure for score in theirs.score(reference, reply).values()]
        assert ours.f1(reference, reply) == pytest.approx(expected, abs=1e-12), (reference, reply)


def test_rouge_lsum_is_the_same_when_only_parts_of_the_table_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    some = pairs(1)[:60]
    rouge = Rouge()
    whole = [rouge.f1(*texts) for texts in some]
    monkeypatch.setattr(subsequence, "SMALL", 8)
    assert [rouge.f1(*texts) for texts in some] == whole


def test_stemming_changes_rouge_and_its_signature() -> None:
    assert Rouge(True).f1("headaches", "headache")[0] == 1
    assert Rouge(False).f1("headaches", "headache")[0] == 0
    assert "stem:porter" in Rouge(True).specs[0].signature
    assert "stem:no" in Rouge(False).specs[0].signature


def test_bleu_counts_and_scores_equal_sacrebleu() -> None:
    theirs = sacrebleu.BLEU(effective_order=True)
    ours = Bleu()
    for reference, reply in pairs():
        expected = theirs._extract_corpus_statistics([reply], [[reference]])[0]
        assert ours.counts(reference, reply) == expected, (reference, reply)
    for (reference, reply), scores in zip(pairs(), ours.score(items(pairs())), strict=True):
        expected_score = theirs.sentence_score(reply, [reference]).score
        assert scores.values["quality.bleu"] == pytest.approx(expected_score, abs=1e-9)


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab12 .,-'&;:<>!/()\n\t€\ud800"), max_size=30) | st.text(max_size=30))
def test_bleu_words_equal_sacrebleu_s(text: str) -> None:
    assert tokenize_13a(text) == SACREBLEU._preprocess_segment(text).split()


@pytest.mark.parametrize("few", [1, 3, 30, 250])
def test_corpus_bleu_equals_sacrebleu(few: int) -> None:
    texts = pairs()[:few]
    expected = sacrebleu.BLEU().corpus_score([reply for _, reply in texts], [[reference for reference, _ in texts]])
    assert corpus_value(Bleu(), texts) == pytest.approx(expected.score, abs=1e-9)


def test_chrf_counts_and_scores_equal_sacrebleu() -> None:
    theirs = sacrebleu.CHRF(word_order=2)
    ours = Chrf()
    for reference, reply in pairs():
        expected = theirs._extract_corpus_statistics([reply], [[reference]])[0]
        assert ours.counts(reference, reply) == expected, (reference, reply)
    for (reference, reply), scores in zip(pairs(), ours.score(items(pairs())), strict=True):
        expected_score = theirs.sentence_score(reply, [reference]).score
        assert scores.values["quality.chrf"] == pytest.approx(expected_score, abs=1e-9)


@pytest.mark.parametrize("few", [1, 3, 30, 250])
def test_corpus_chrf_equals_sacrebleu(few: int) -> None:
    texts = pairs()[:few]
    expected = sacrebleu.CHRF(word_order=2).corpus_score([t[1] for t in texts], [[t[0] for t in texts]])
    assert corpus_value(Chrf(), texts) == pytest.approx(expected.score, abs=1e-9)


def test_signatures_hold_what_sacrebleu_prints() -> None:
    bleu = sacrebleu.BLEU()
    bleu.corpus_score(["a"], [["a"]])
    chrf = sacrebleu.CHRF(word_order=2)
    chrf.corpus_score(["a"], [["a"]])
    for ours, theirs in ((Bleu().specs[0], bleu), (Chrf().specs[0], chrf)):
        assert set(str(theirs.get_signature()).split("|")[:-1]) <= set(ours.signature.split("|"))


def test_text_with_many_distinct_words_is_counted_the_slow_way_with_the_same_result() -> None:
    reference = " ".join(f"w{number}" for number in range(40_000))
    reply = " ".join(f"w{number}" for number in range(0, 40_000, 2)) + " w1 w2 w3 w4"
    assert Bleu().counts(reference, reply)[2:6] == [20_002, 3, 2, 1]


def test_no_reply_has_no_value_and_no_counts() -> None:
    for metric in (Rouge(), Bleu(), Chrf()):
        scores = metric.score([Item("1", "", "reference", None)])[0]
        assert set(scores.values.values()) == {None}
        assert not scores.statistics


@pytest.mark.shared
@pytest.mark.parametrize("system", ["gpt-4", "chatgpt", "bart-samsum-division"])
def test_published_rouge_of_aci_bench_is_reproduced(system: str) -> None:
    folder = shared("golden/aci-bench")
    published = json.loads((folder / "published.json").read_text())["systems"][system]
    rows = [json.loads(line) for line in (folder / f"{system}.jsonl").read_text().splitlines()]
    found = np.mean([Rouge().f1(row["reference"], row["reply"]) for row in rows], axis=0) * 100
    expected = [published["rouge1"], published["rouge2"], published["rougeLsum"]]
    assert found[[0, 1, 3]] == pytest.approx(expected, abs=0.01)
