"""The one sentence that most people will read."""

from __future__ import annotations

import itertools
import re
from typing import get_args

import pytest

from harness.gating.verdict import VerdictName
from harness.stats.types import Outcome
from harness.store.schema import ComparisonRow, MetricSummary, SanityCheck
from reports.decision import decide
from reports.headline import headline
from reports.next_step import next_step
from reports.tiles import tiles
from reports.verdict_sentence import verdict_sentence
from tests.reports.small_view import KINDS, checked, compared, gated, make_view

CLOSER = compared("quality.rouge_l", "better", 0.12)
LIKELIER = compared("quality.nll", "better", -0.61)


def test_says_all_that_the_run_showed_in_one_breath() -> None:
    view = make_view(
        CLOSER,
        LIKELIER,
        compared("latency.tpot_ms.p50", "worse", 1.6, relative=True, low=1.5, high=1.7),
        compared("latency.tpot_ms.p50", "undecided", 1.01, relative=True, low=0.99, high=1.03, variant="merged"),
        compared("quality.nll", "equal", 0.001, variant="merged", against="adapter", low=-0.003, high=0.005),
        variants=("base", "adapter", "merged"),
        gate=gated("inconclusive", checked("inconclusive", n=120), checked("inconclusive", "safety.refusal", n=120)),
    )
    assert verdict_sentence(view) == (
        "The adapter's replies are closer to the references than the base's (ROUGE-L +0.12, nll −0.61 per token); "
        "1.6 times the latency unmerged (TPOT, median), 1.01 times merged (undecided); merging keeps it "
        "(100\u00a0% of the nll gain). Two safety checks are undecided with 120 dialogues. Gate: inconclusive."
    )


def test_a_loss_reads_as_one() -> None:
    view = make_view(compared("quality.rouge_l", "worse", -0.05), compared("quality.nll", "worse", 0.3))
    assert (
        "replies are further from the references than the base's (ROUGE-L −0.05, nll +0.30 per token)"
        in verdict_sentence(view)
    )


def test_undecided_is_called_undecided_with_its_range_and_size() -> None:
    row = compared("quality.rouge_l", "undecided", 0.01, low=-0.02, high=0.04)
    sentence = verdict_sentence(make_view(row))
    assert sentence.startswith(
        "Whether the adapter's replies are closer to the references than the base's is undecided"
    )
    assert "(ROUGE-L between −0.02 and +0.04 with 120 dialogues)" in sentence


@pytest.mark.parametrize(
    ("n", "told"), [(120, "(ROUGE-L +0.05, no interval with"), (5, "(ROUGE-L: too few dialogues for an interval with")]
)
def test_only_few_dialogues_are_called_too_few_for_an_interval(n: int, told: str) -> None:
    """120 that all differ by the same have no interval either."""
    row = compared("quality.rouge_l", "undecided", 0.05, low=None, high=None, n=n)
    assert told in verdict_sentence(make_view(row))


def test_metrics_that_disagree_are_named_one_by_one() -> None:
    sentence = verdict_sentence(make_view(CLOSER, compared("quality.nll", "worse", 0.2)))
    assert "by ROUGE-L +0.12 the adapter's replies are closer" in sentence.replace("By", "by")
    assert "by nll +0.20 per token the adapter predicts the references worse" in sentence


def test_one_decided_and_one_undecided_metric_are_told_apart() -> None:
    sentence = verdict_sentence(make_view(CLOSER, compared("quality.nll", "undecided", 0.0)))
    assert "by nll that is undecided (nll between −0.02 and +0.02 per token)" in sentence


def test_likelihood_alone_says_nothing_about_replies() -> None:
    sentence = verdict_sentence(make_view(LIKELIER))
    assert sentence.startswith("The adapter predicts the references better than the base does (nll −0.61 per token)")


def test_what_was_not_measured_is_said() -> None:
    sentence = verdict_sentence(make_view())
    assert "How close the replies are to the references was not measured; latency was not measured." in sentence
    assert "Safety rules were not applied." in sentence
    assert "No gate was applied." in sentence


def test_a_single_variant_has_nothing_to_be_compared_with() -> None:
    view = make_view(values={"quality.rouge_l": {"adapter": 0.3}}, variants=("adapter",))
    assert verdict_sentence(view).startswith("The adapter has ROUGE-L 0.300; there is nothing to compare it with")


@pytest.mark.parametrize(
    ("merged", "low", "high", "words"),
    [
        (1.9, -0.01, 0.01, "merging keeps it (100\u00a0% of the nll gain)"),
        (2.8, 0.88, 0.92, "merging loses most of it (10\u00a0% of the nll gain is left)"),
        (2.2, 0.28, 0.32, "merging loses part of it (70\u00a0% of the nll gain is left)"),
        (1.95, -0.02, 0.12, "whether merging keeps it is undecided (88 to 102\u00a0% of the nll gain)"),
    ],
)
def test_the_merge_is_judged_by_the_share_of_the_gain_it_keeps(
    merged: float, low: float, high: float, words: str
) -> None:
    view = make_view(
        compared("quality.nll", "better", -1.0),
        compared("quality.nll", "worse", merged - 1.9, variant="merged", against="adapter", low=low, high=high),
        values={"quality.nll": {"base": 2.9, "adapter": 1.9, "merged": merged}},
        variants=("base", "adapter", "merged"),
    )
    assert words in verdict_sentence(view)


def test_rules_that_fire_more_often_are_named() -> None:
    sentence = verdict_sentence(make_view(CLOSER, compared("safety.missed_emergency", "worse", 0.08)))
    assert "The adapter does worse on missed emergency (+8.0 points)." in sentence


def rules(*p_values: float) -> list[ComparisonRow]:
    names = ("safety.missed_emergency", "safety.refusal")
    return [
        compared(name, "worse" if p_value < 0.05 else "undecided", 0.08, p_value=p_value)
        for name, p_value in zip(names, p_values, strict=True)
    ]


def test_a_rule_that_is_worse_by_chance_among_several_is_undecided() -> None:
    sentence = verdict_sentence(make_view(CLOSER, *rules(0.03, 0.4)))
    assert "does worse" not in sentence
    assert "issed emergency (+8.0 points) is undecided after Holm's correction over two safety rules" in sentence


def test_a_rule_that_is_worse_after_holms_correction_is_named_with_it() -> None:
    sentence = verdict_sentence(make_view(CLOSER, *rules(0.001, 0.4)))
    named = "The adapter does worse on missed emergency (+8.0 points) after Holm's correction over two safety rules"
    assert named in sentence


def test_few_dialogues_and_gaps_are_said() -> None:
    sentence = verdict_sentence(make_view(CLOSER, answered=38, dialogues=40))
    assert (
        "2 of 40 dialogues have no result for the adapter and the base; with 38 dialogues, fewer than 50, every "
        "interval is rough." in sentence
    )


def test_an_unfinished_run_or_failed_sanity_check_comes_first() -> None:
    broken = SanityCheck(name="adapter changes the logits", variant="adapter", ok=False)
    view = make_view(CLOSER, state="failed", sanity=(broken,))
    assert verdict_sentence(view).startswith(
        "This run failed; a sanity check failed: “adapter changes the logits” (adapter)."
    )
    assert next_step(view)[0].startswith("Run the same command again")


def test_never_claims_what_was_not_measured() -> None:
    outcomes, verdicts = get_args(Outcome), (None, *get_args(VerdictName))
    for quality, safety, verdict in itertools.product(outcomes, outcomes, verdicts):
        view = make_view(
            compared("quality.rouge_l", quality, 0.1),
            compared("safety.missed_emergency", safety, -0.1),
            gate=gated(verdict, checked(verdict)) if verdict else None,
        )
        decided = decide(view)
        assert (decided.word == "Ship") == (verdict == "pass")
        said = [verdict_sentence(view), decided.reason, headline(view, decided), *next_step(view)]
        text = " ".join([*said, *(part for tile in tiles(view) for part in (tile.title, tile.value, tile.detail))])
        assert not re.search(r"answers? better|\bsafe\b|\bsafer\b", text, re.IGNORECASE)
        if quality == "undecided":
            assert "undecided" in text


@pytest.mark.parametrize(
    ("verdict", "step"),
    [
        ("pass", "Every threshold is met: have a person review the adapter"),
        ("fail", "Do not release the adapter: “a-check” failed. Start with its worst dialogues below."),
        ("error", "Do not release anything yet: “a-check” could not be judged. a-check: Because."),
        (
            "inconclusive",
            "Do not release the adapter on this evidence yet: “a-check” undecided. About 420 held-out dialogues",
        ),
    ],
)
def test_the_next_step_follows_the_gate(verdict: VerdictName, step: str) -> None:
    view = make_view(CLOSER, gate=gated(verdict, checked(verdict, needed_n=412)))
    assert next_step(view)[0].startswith(step)


@pytest.mark.parametrize(
    ("outcome", "step"),
    [
        ("worse", "Do not replace the base with the adapter"),
        ("undecided", "Keep the base for now: by ROUGE-L this run cannot distinguish the two. About 900 dialogues"),
        ("better", "Set the thresholds that the adapter must meet"),
    ],
)
def test_the_next_step_without_a_gate_follows_the_quality(outcome: Outcome, step: str) -> None:
    assert next_step(make_view(compared("quality.rouge_l", outcome, 0.1, needed_n=900)))[0].startswith(step)


@pytest.mark.parametrize(
    ("outcome", "p_value", "step"),
    [
        ("undecided", 0.001, "Keep the base for now, and read the dialogues below in which the adapter does worse"),
        ("better", 0.001, "First read the dialogues below in which the adapter does worse than the base: missed"),
        ("better", 0.04, "Set the thresholds that the adapter must meet"),
        ("undecided", 0.04, "Keep the base for now: by ROUGE-L this run cannot distinguish the two."),
    ],
)
def test_the_next_step_speaks_of_the_rules_that_the_headline_calls_worse(
    outcome: Outcome, p_value: float, step: str
) -> None:
    view = make_view(
        compared("quality.rouge_l", outcome, 0.1),
        compared("safety.missed_emergency", "worse", 0.08, p_value=p_value),
        compared("safety.refusal", "undecided", 0.0, p_value=0.9),
        values={"safety.refusal": {"base": 0.0, "adapter": 0.0}},
    )
    assert next_step(view)[0].startswith(step)


def test_names_other_than_the_usual_stand_without_an_article() -> None:
    row = compared("quality.rouge_l", "better", 0.1, variant="gpt-4", against="bart")
    sentence = verdict_sentence(make_view(row, variants=("bart", "gpt-4")))
    assert sentence.startswith("gpt-4's replies are closer to the references than bart's")


def test_a_time_without_an_interval_is_undecided_and_no_reason_to_merge() -> None:
    view = make_view(
        compared("quality.nll", "better", -1.0),
        compared("latency.tpot_ms.p50", "undecided", 1.5, relative=True, low=None, high=None),
        compared("latency.tpot_ms.p50", "undecided", 1.0, relative=True, low=None, high=None, variant="merged"),
        values={"quality.nll": {"base": 2.9, "adapter": 1.9, "merged": 1.9}},
        variants=("base", "adapter", "merged"),
    )
    assert "whether it is slower unmerged is undecided (1.5 times, no interval, TPOT, median)" in verdict_sentence(view)
    assert not any("merge it" in step for step in next_step(view))


def test_further_systems_are_named_in_brief() -> None:
    rows = [
        compared("quality.rouge_l", "worse", -0.03, variant="two", against="one"),
        compared("quality.rouge_l", "undecided", 0.0, variant="three", against="one"),
    ]
    sentence = verdict_sentence(make_view(*rows, variants=("one", "two", "three"), kind="score"))
    assert sentence.startswith(
        "two's replies are further from the references than one's (ROUGE-L −0.03); "
        "three's undecided (ROUGE-L between −0.02 and +0.02)."
    )


def test_the_next_step_counts_what_each_check_counts() -> None:
    speed = checked("inconclusive", "latency.tpot_ms.p50", units="requests", needed_n=31)
    assert next_step(make_view(CLOSER, gate=gated("inconclusive", speed)))[0].endswith(
        "undecided. About 31 requests in all would decide."
    )


def test_too_few_dialogues_to_be_judged_are_not_said_to_decide() -> None:
    few = checked("inconclusive", n=12, min_samples=100, needed_n=100)
    assert next_step(make_view(CLOSER, gate=gated("inconclusive", few)))[0].endswith(
        "undecided. The thresholds require at least 100 held-out dialogues."
    )


def test_the_next_step_without_a_gate_does_not_pass_over_a_safety_rule_that_fires_more_often() -> None:
    step = next_step(make_view(CLOSER, compared("safety.missed_emergency", "worse", 0.08)))[0]
    assert step == ("First read the dialogues below in which the adapter does worse than the base: missed emergency.")


def test_a_merge_of_another_adapter_is_not_held_against_the_candidate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(KINDS, "second", "adapter")
    likelihoods = {"quality.nll": {"base": 2.5, "adapter": 1.9, "second": 2.2, "merged": 2.2}}
    view = make_view(LIKELIER, variants=("base", "adapter", "second", "merged"), values=likelihoods)
    pairs = {"against": {"merged": "second"}}
    view.summary.metrics["fidelity.kl"] = MetricSummary(
        unit="nats/token", higher_is_better=False, signature="test", label="KL", conditions=pairs
    )
    assert view.counterpart("merged") == "second"
    assert "merging" not in verdict_sentence(view)
