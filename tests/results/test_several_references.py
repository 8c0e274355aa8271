"""Several references of one dialogue: the best counts, or their mean."""

from __future__ import annotations

import pytest
from rouge_score.rouge_scorer import RougeScorer

from harness.metrics.loading import load_metrics
from harness.metrics.registry import Finding, Item, MetricSpec, Scores
from harness.results.several_references import combine, sign
from harness.store.schema import DialogueRow

REFERENCES = (
    "Rest and drink water for three days.",
    "Please see a doctor if the headache lasts longer than three days.",
    "Take ibuprofen with food.",
)
REPLY = "Drink water, and see a doctor if it lasts longer than three days."


def spec(name: str, **changes: object) -> MetricSpec:
    usual: dict[str, object] = {
        "unit": "",
        "higher_is_better": True,
        "aggregation": "mean",
        "signature": f"{name} · v1",
        "label": name,
    }
    return MetricSpec(name, **{**usual, **changes})  # type: ignore[arg-type]


def scored() -> tuple[list[Scores], dict[str, MetricSpec]]:
    metrics = load_metrics(["rouge", "bleu"])
    items = [Item("a", "Headache?", reference, REPLY) for reference in REFERENCES]
    return metrics.score(items), dict(metrics.specs)


def test_the_best_reference_is_what_rouge_score_takes() -> None:
    found, specs = scored()
    expected = RougeScorer(["rouge1", "rouge2", "rougeL"]).score_multi(list(REFERENCES), REPLY)
    best = combine(found, specs, "best").values
    assert best["quality.rouge_1"] == pytest.approx(expected["rouge1"].fmeasure)
    assert best["quality.rouge_2"] == pytest.approx(expected["rouge2"].fmeasure)
    assert best["quality.rouge_l"] == pytest.approx(expected["rougeL"].fmeasure)


def test_the_mean_counts_every_reference_alike() -> None:
    found, specs = scored()
    single = [RougeScorer(["rouge1"]).score(reference, REPLY)["rouge1"].fmeasure for reference in REFERENCES]
    assert combine(found, specs, "mean").values["quality.rouge_1"] == pytest.approx(sum(single) / 3)


def test_the_statistics_of_a_corpus_metric_are_those_of_the_reference_that_counts() -> None:
    found, specs = scored()
    values = [scores.values["quality.bleu"] or 0.0 for scores in found]
    place = values.index(max(values))
    assert place == 1
    assert combine(found, specs, "best").statistics["quality.bleu"] == found[1].statistics["quality.bleu"]
    columns = zip(*(scores.statistics["quality.bleu"] for scores in found), strict=True)
    assert combine(found, specs, "mean").statistics["quality.bleu"] == pytest.approx([sum(one) / 3 for one in columns])


def test_lower_is_better_takes_the_lowest_and_no_direction_the_first() -> None:
    specs = {"s.low": spec("s.low", higher_is_better=False), "s.none": spec("s.none", higher_is_better=None)}
    found = [Scores({"s.low": 3.0, "s.none": 5.0}), Scores({"s.low": None, "s.none": 1.0}), Scores({"s.low": 2.0})]
    assert combine(found, specs, "best").values == {"s.low": 2.0, "s.none": 5.0}
    assert combine(found, specs, "mean").values == {"s.low": 2.5, "s.none": 5.0}


@pytest.mark.parametrize("how", ["best", "mean"])
def test_likelihoods_are_those_of_the_first_reference(how: str) -> None:
    metrics = load_metrics(["likelihood"])
    items = [Item("a", "Headache?", text, REPLY, nll=8.0, reference_tokens=4) for text in REFERENCES]
    found = metrics.score(items)
    assert found[1] != found[0]  # bits per byte depend on the text
    assert combine(found, metrics.specs, how) == found[0]  # type: ignore[arg-type]
    several = DialogueRow(id="a", prompt="p", reference="r", further_references=("other",))
    assert sign(metrics.specs, [several], "best") == metrics.specs


@pytest.mark.parametrize("how", ["best", "mean"])
def test_a_rule_fires_only_if_it_fires_against_every_reference(how: str) -> None:
    specs = {"s.bad": spec("s.bad", higher_is_better=False, aggregation="rate")}
    fired = Scores({"s.bad": 1.0}, findings=(Finding("s.bad", "dose"),))
    assert combine([fired, Scores({"s.bad": 0.0})], specs, how) == Scores({"s.bad": 0.0})  # type: ignore[arg-type]
    assert combine([fired, fired], specs, how) == fired  # type: ignore[arg-type]


def test_the_signature_says_how_references_were_combined_where_there_are_several() -> None:
    specs = {"s.a": spec("s.a")}
    one = DialogueRow(id="a", prompt="p", reference="r")
    assert sign(specs, [one], "mean") == specs
    several = one.model_copy(update={"further_references": ("other",)})
    assert sign(specs, [one, several], "mean")["s.a"].signature == "s.a · v1 · references:mean"
