"""A difference in words, and which rows of the table have one to tell."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gating.verdict import CheckResult
from reports.cells import comparison_table
from reports.differences import deciding, nothing_to_say
from tests.reports.small_view import checked, compared, gated, make_view


def said(outcome: str, low: float | None, high: float | None, *, unit: str = "F1", **facts: Any) -> str:
    row = compared("quality.rouge_l", outcome, 0.0, low=low, high=high, **facts)
    return nothing_to_say(make_view(row), row, unit)


def test_an_undecided_difference_names_the_farther_end_of_its_interval() -> None:
    assert said("undecided", -0.0034, 0.0121) == "no clear difference (±0.012)"
    assert said("undecided", -0.0134, 0.0121) == "no clear difference (±0.013)"


def test_shares_are_told_in_points_and_ratios_in_percent() -> None:
    assert said("undecided", -0.156, 0.02, unit="share of replies") == "no clear difference (±16\u00a0points)"
    assert said("undecided", 0.98, 1.043, unit="ms", relative=True) == "no clear difference (±4.3\u00a0%)"


def test_without_an_interval_none_is_made_up() -> None:
    assert said("undecided", None, None) == "no clear difference (no interval)"


def test_what_differs_is_never_silent() -> None:
    assert said("worse", -0.02, -0.01) == ""
    assert said("different", -0.02, -0.01) == ""


def check(rule: str, limit: float, **facts: Any) -> CheckResult:
    known = {"against": "base", "scale": "difference", "limit": limit, "rule": rule, **facts}
    return checked("pass", "quality.rouge_l", **known)


@pytest.mark.parametrize(
    ("rule", "limit", "outcome", "low", "high", "silent"),
    [
        ("non_inferiority", -0.02, "undecided", -0.01, 0.015, True),
        ("no_regression", -0.02, "undecided", -0.01, 0.015, True),
        ("non_inferiority", -0.02, "undecided", -0.01, 0.025, False),  # reaches beyond the margin
        ("non_inferiority", -0.02, "worse", -0.015, -0.01, False),  # tolerated, but proven
        ("equivalence", -0.02, "worse", -0.015, -0.01, True),
        ("min", 0.02, "undecided", -0.01, 0.015, False),  # a wanted gain is no margin
    ],
)
def test_no_practical_difference_lies_within_the_gates_margin(
    rule: str, limit: float, outcome: str, low: float, high: float, silent: bool
) -> None:
    row = compared("quality.rouge_l", outcome, (low + high) / 2, low=low, high=high)
    told = nothing_to_say(make_view(row, gate=gated("pass", check(rule, limit))), row, "F1")
    assert told.startswith("no practical difference (within ±0.020)") is silent


def test_a_margin_of_another_comparison_is_none() -> None:
    row = compared("quality.rouge_l", "undecided", 0.0, low=-0.001, high=0.001)
    others: list[dict[str, Any]] = [
        {"against": "merged"},
        {"candidate": "merged"},
        {"slice": "a=b"},
        {"scale": "value"},
    ]
    for facts in others:
        view = make_view(row, gate=gated("pass", check("equivalence", -0.02, **facts)))
        assert nothing_to_say(view, row, "F1").startswith("no clear difference")


@pytest.mark.parametrize(("needed", "told"), [(1190, "about 1,200 would decide"), (1200, ""), (None, "")])
def test_a_number_of_dialogues_is_told_only_below_ten_times_the_runs(needed: int | None, told: str) -> None:
    assert deciding(compared("quality.rouge_l", "undecided", 0.01, needed_n=needed, n=120)) == told


def test_rows_without_a_difference_are_apart_from_those_with_one() -> None:
    better = compared("quality.rouge_l", "better", 0.1)
    table = comparison_table(make_view(better, compared("quality.nll", "undecided", 0.0)))
    assert [row.name for group in table.told for row in group.rows] == ["quality.rouge_l"]
    assert [row.name for group in table.quiet for row in group.rows] == ["quality.nll"]


def test_one_variant_that_differs_keeps_the_row() -> None:
    rows = (compared("quality.nll", "undecided", 0.0), compared("quality.nll", "worse", 0.1, variant="merged"))
    table = comparison_table(make_view(*rows, variants=("base", "adapter", "merged")))
    assert table.quiet == ()


def test_what_was_not_compared_is_no_silence() -> None:
    values = {"memory.peak_allocated_mib": {"base": 100.0, "adapter": 100.0}}
    assert comparison_table(make_view(values=values)).quiet == ()


def test_a_note_is_numbered_once_and_one_of_most_rows_is_the_groups() -> None:
    few, rare = "Only 24 dialogues.", "Nothing varies."
    names = ("quality.rouge_l", "quality.nll", "quality.empty")
    rows = [compared(name, "better", 0.1, warnings=(few, rare) if name == names[0] else (few,)) for name in names]
    table = comparison_table(make_view(*rows))
    assert table.footnotes == (few, rare)
    assert [group.footnotes for group in table.main] == [(1,)]
    assert [row.footnotes for group in table.main for row in group.rows] == [(2,), (), ()]


def test_the_n_of_most_rows_is_the_groups() -> None:
    values = {"quality.rouge_l": {"base": 1.0}, "quality.nll": {"base": 1.0}, "quality.empty": {"base": 1.0}}
    view = make_view(values=values, variants=("base",))
    few = view.summary.metrics["quality.empty"].variants["base"].model_copy(update={"n": 7})
    view.summary.metrics["quality.empty"].variants["base"] = few
    (group,) = comparison_table(view).main
    assert group.remarks == ("n\u00a0=\u00a0120",)
    assert [row.units for row in group.rows] == ["", "", "n\u00a0=\u00a07"]
