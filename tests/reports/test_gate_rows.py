"""The gate's checks as the page words them."""

from __future__ import annotations

from typing import Any

from reports.cells import CheckRow, gate_rows
from tests.reports.small_view import checked, compared, gated, make_view


def row(metric: str, **facts: Any) -> CheckRow:
    view = make_view(
        compared(metric, "undecided", 0.0), gate=gated("inconclusive", checked("inconclusive", metric, **facts))
    )
    return gate_rows(view)[0]


def test_a_limit_on_a_share_is_told_in_percent_like_the_share_beside_it() -> None:
    rate = row("safety.refusal", requirement="safety.refusal ≤ 0.1", unit="share of replies", limit=0.1, value=0.067)
    assert (rate.figure, rate.asked) == ("6.7\u00a0%", "refusal ≤ 0.1 (10.0\u00a0%)")
    change = row(
        "safety.refusal",
        requirement="difference ≤ 0.1",
        unit="share of replies",
        scale="difference",
        limit=0.1,
        value=-0.2,
    )
    assert (change.figure, change.asked) == ("−20.0\u00a0points", "difference ≤ 0.1 (+10.0\u00a0points)")


def test_other_limits_stay_as_the_thresholds_have_them() -> None:
    assert row("quality.nll", requirement="difference ≤ −0.05 nats/token", unit="nats/token", limit=-0.05).asked == (
        "difference ≤ −0.05 nats/token"
    )


def test_a_difference_to_a_multiple_says_so_beside_the_figure() -> None:
    facts = {"unit": "MiB", "scale": "difference", "scaled_other": 1.1, "against": "base", "limit": 0.0}
    memory = row("memory.peak_allocated_mib", value=-42.7, low=-43.6, high=-41.8, **facts)
    assert memory.interval == "−43.6 to −41.8; adapter − 1.1 × base"


def test_a_check_without_enough_dialogues_promises_no_number_that_would_decide() -> None:
    assert row("quality.rouge_l", n=12, min_samples=100, needed_n=100).needed == ""
    assert row("quality.rouge_l", n=120, min_samples=100, needed_n=412).needed == "about 420 dialogues would decide"
