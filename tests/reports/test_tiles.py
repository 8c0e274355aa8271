"""The six tiles: what each shows of made-up numbers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.results.memory_fits import Fit
from harness.store.schema import EstimateRow, IdentityRow
from reports.rules import from_to
from reports.tiles import Tile, tiles
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView
from tests.reports.small_view import checked, compared, gated, make_view

TITLES = ["Quality", "Safety rules", "Form", "Fidelity", "Latency", "Memory"]
PEAK = {"memory.peak_allocated_mib": {"base": 4096.0, "adapter": 8192.0}}


def tile(view: RunView, title: str, *fits: Fit) -> Tile:
    return next(tile for tile in tiles(view, fits) if tile.title == title)


def fit(batch: int, context: int, smallest: int | None) -> Fit:
    cards = {str(card): smallest is not None and card >= smallest for card in (8, 24, 80)}
    return Fit(variant="adapter", batch=batch, context=context, need_mib=1.0, fits=cards)


def test_what_was_not_measured_is_said_without_a_sign() -> None:
    found = tiles(make_view())
    assert [tile.title for tile in found] == TITLES
    assert not any(tile.value or tile.sign for tile in found)
    assert [tile.detail for tile in found] == [
        *["not measured"] * 3,
        "no merged variant in this run",
        *["not measured"] * 2,
    ]


def test_memory_names_the_cards_it_fits() -> None:
    found = tile(make_view(values=PEAK), "Memory", fit(1, 1024, 8), fit(8, 2048, 24), fit(32, 2048, None))
    assert (found.value, found.sign) == ("8.00\u00a0GiB", None)
    assert found.detail == "Fits 8 GB at 1\u00a0×\u00a01,024 tokens; 24 GB at 8\u00a0×\u00a02,048 tokens"


def test_memory_that_fits_no_card_is_red() -> None:
    found = tile(make_view(values=PEAK), "Memory", fit(1, 1024, None))
    assert found.detail == "Fits no card up to 80 GB"
    assert found.sign
    assert found.sign.style == "worse"


def test_memory_without_a_table_of_cards_stands_beside_the_references() -> None:
    assert tile(make_view(values=PEAK), "Memory").detail == "peak allocated, base 4.00\u00a0GiB"


def test_the_card_table_of_another_variant_is_not_the_candidates() -> None:
    other = fit(1, 1024, 8).model_copy(update={"variant": "base"})
    assert "Fits" not in tile(make_view(values=PEAK), "Memory", other).detail


def test_the_rule_with_the_largest_proven_rise_is_shown_and_the_others_counted() -> None:
    rates = {
        "safety.missed_emergency": {"base": 0.1, "adapter": 0.2},
        "safety.refusal": {"base": 0.004, "adapter": 0.31},
    }
    rows = [
        compared("safety.missed_emergency", "worse", 0.1, p_value=0.001),
        compared("safety.refusal", "worse", 0.306, p_value=0.001),
    ]
    found = tile(make_view(*rows, values=rates), "Safety rules")
    assert (found.value, found.detail) == ("0.4\u00a0% → 31\u00a0%", "refusal, and 1 more")
    assert found.sign
    assert found.sign.word == "worse"


def test_a_failed_safety_check_is_shown_before_a_larger_rise_that_the_gate_does_not_judge() -> None:
    rates = {
        "safety.missed_emergency": {"base": 0.1, "adapter": 0.2},
        "safety.refusal": {"base": 0.0, "adapter": 0.3},
    }
    rows = [compared(name, "worse", 0.1, p_value=0.001) for name in rates]
    view = make_view(*rows, values=rates, gate=gated("fail", checked("fail", value=0.2)))
    assert tile(view, "Safety rules").detail == "missed emergency, and 1 more"


def test_a_rise_that_is_not_proven_is_undecided_and_named() -> None:
    rates = {
        "safety.missed_emergency": {"base": 0.05, "adapter": 0.09},
        "safety.refusal": {"base": 0.3, "adapter": 0.3},
    }
    rows = [compared("safety.missed_emergency", "undecided", 0.04), compared("safety.refusal", "equal", 0.0)]
    found = tile(make_view(*rows, values=rates), "Safety rules")
    assert (found.value, found.detail) == ("5\u00a0% → 9\u00a0%", "missed emergency; 1 of 2 rules undecided")
    assert found.sign
    assert found.sign.style == "undecided"


def test_a_merge_that_loses_the_gain_is_red() -> None:
    view = make_view(
        compared("quality.nll", "better", -1.0),
        compared("quality.nll", "worse", 0.9, variant="merged", against="adapter", low=0.88, high=0.92),
        values={"quality.nll": {"base": 2.9, "adapter": 1.9, "merged": 2.8}},
        variants=("base", "adapter", "merged"),
    )
    found = tile(view, "Fidelity")
    assert (found.value, found.sign and found.sign.style) == ("10\u00a0%", "worse")


def test_a_single_variant_shows_its_own_figures() -> None:
    values = {"quality.rouge_l": {"adapter": 0.3}, "safety.refusal": {"adapter": 0.12}}
    view = make_view(values=values, variants=("adapter",))
    assert (tile(view, "Quality").value, tile(view, "Quality").detail) == ("0.300", "ROUGE-L, compared with nothing")
    assert tile(view, "Safety rules").value == "12\u00a0%"


def test_replies_without_any_fault_are_in_order() -> None:
    rates = {name: {"base": 0.0, "adapter": 0.0} for name in ("quality.empty", "quality.looping")}
    found = tile(make_view(values=rates), "Form")
    assert (found.value, found.detail, found.sign) == ("in order", "no fault found", None)


def test_a_rule_that_could_judge_few_dialogues_says_how_many() -> None:
    view = make_view(values={"safety.missed_emergency": {"base": 1.0, "adapter": 1.0}})
    row = view.summary.metrics["safety.missed_emergency"].variants
    row["adapter"] = row["adapter"].model_copy(update={"n": 2})
    assert "missed emergency (n\u00a0=\u00a02)" in tile(view, "Safety rules").detail


def test_a_server_that_is_not_what_it_claims_comes_before_what_merging_kept() -> None:
    view = make_view(values={"quality.rouge_l": {"base": 0.1, "adapter": 0.2}})
    rows = tuple(
        IdentityRow(variant=name, claimed="adapter", finding=finding, replies=9, sure=0, near_ties=0, unknown=0)
        for name, finding in (("good", "same"), ("bad", "other"))
    )
    found = tile(replace(view, summary=view.summary.model_copy(update={"identities": rows})), "Fidelity")
    assert (found.value, found.detail) == ("something else", "bad, which should be adapter; see below")
    assert found.sign is not None
    assert found.sign.style == "worse"


def test_what_was_timed_at_a_server_is_measured() -> None:
    name = "latency.tpot_ms.p50"
    view = make_view(values={name: {"adapter": 12.5}})
    metrics = {f"{name}[engine=server,concurrency=1]": view.summary.metrics[name]}
    served = replace(view, summary=view.summary.model_copy(update={"metrics": metrics}))
    assert tile(served, "Latency").value.startswith("12.5")


def test_values_of_other_numbers_of_dialogues_are_shown_with_them() -> None:
    view = make_view(compared("quality.rouge_l", "better", 0.5, n=10), values={"quality.rouge_l": {"base": 0.2}})
    metric = view.summary.metrics["quality.rouge_l"]
    few = {"base": EstimateRow(value=0.244, n=80), "adapter": EstimateRow(value=0.815, n=10)}
    metrics = {"quality.rouge_l": metric.model_copy(update={"variants": few})}
    view = replace(view, summary=view.summary.model_copy(update={"metrics": metrics}))
    assert tiles(view)[0].detail == "ROUGE-L 0.244 (n\u00a0=\u00a080) → 0.815 (n\u00a0=\u00a010)"


def test_tile_and_sentence_count_the_same_undecided_rules() -> None:
    names = ("safety.missed_emergency", "safety.refusal", "safety.unsupported_numbers", "safety.medication_recall")
    rows = [compared(name, "undecided", 0.01, n=1) for name in names]
    view = make_view(*rows)
    assert tile(view, "Safety rules").detail.endswith("; 2 of 2 rules undecided")
    assert "Two safety rules are undecided with 1 dialogue." in verdict_sentence(view)


def test_a_rule_that_only_seems_worse_is_counted_once_by_both() -> None:
    seems = compared("safety.refusal", "worse", 0.01, p_value=0.04)
    view = make_view(seems, compared("safety.missed_emergency", "undecided", 0.01))
    assert tile(view, "Safety rules").detail.endswith("; 2 of 2 rules undecided")
    assert "Refusal (+1.0 points) is undecided after Holm's" in verdict_sentence(view)
    assert "one further safety rule is undecided" in verdict_sentence(view)


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        (0.986, 0.995, "98.6\u00a0% → 99.5\u00a0%"),
        (0.502, 0.504, "50.2\u00a0% → 50.4\u00a0%"),
        (0.5, 1.0, "50\u00a0% → 100\u00a0%"),
        (0.0, 0.0004, "0\u00a0% → 0.04\u00a0%"),
        (0.3, 0.3, "30\u00a0% → 30\u00a0%"),
        (0.9996, 1.0, "99.96\u00a0% → 100\u00a0%"),
    ],
)
def test_shares_that_differ_look_different(before: float, after: float, shown: str) -> None:
    assert from_to(before, after) == shown
