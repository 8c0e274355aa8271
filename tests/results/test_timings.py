from __future__ import annotations

import pytest

from harness.results.timings import (
    e2e_ms,
    finished,
    gaps_ms,
    served_together,
    tokens_per_s,
    tpot_ms,
    ttft_ms,
    within_budget,
)
from harness.store.schema import LatencyRecord
from tests.results.made_runs import timed

# Submitted at 1 s on the clock; tokens after 40, 50, 70 and 76 ms.
STAMPS = LatencyRecord(
    id="a",
    key="k",
    submitted_ns=1_000_000_000,
    stamps_ns=(1_040_000_000, 1_050_000_000, 1_070_000_000, 1_076_000_000),
)


def test_each_timing_by_its_definition() -> None:
    assert ttft_ms(STAMPS) == 40.0
    assert e2e_ms(STAMPS) == 76.0
    assert tpot_ms(STAMPS) == 12.0
    assert gaps_ms(STAMPS).tolist() == [10.0, 20.0, 6.0]
    assert tokens_per_s([STAMPS]) == pytest.approx(4 / 0.076)


def test_a_single_token_has_no_time_per_token_after_it() -> None:
    one = timed("a", tokens=1)
    assert tpot_ms(one) is None
    assert gaps_ms(one).size == 0
    assert ttft_ms(one) == e2e_ms(one) == 50.0


def test_no_token_has_no_timing_at_all() -> None:
    none = timed("a", tokens=0)
    assert (ttft_ms(none), e2e_ms(none), tpot_ms(none), tokens_per_s([none])) == (None, None, None, None)


def test_stamps_late_on_the_clock_lose_no_nanosecond() -> None:
    late = LatencyRecord(id="a", key="k", submitted_ns=2**62, stamps_ns=(2**62 + 1_000_001, 2**62 + 2_000_003))
    assert ttft_ms(late) == 1.000001
    assert gaps_ms(late)[0] == 1.000002


def test_a_batch_has_one_throughput_over_the_time_of_its_slowest() -> None:
    batch = [timed("a", tokens=5, batch=2), timed("b", tokens=3, batch=2)]
    assert tokens_per_s(batch) == pytest.approx(8 / 0.090)


@pytest.mark.parametrize(
    ("ttft", "tpot", "kept"),
    [(40.0, 12.0, True), (39.9, 12.0, False), (40.0, 11.9, False), (None, 12.0, True), (40.0, None, True)],
)
def test_within_budget(ttft: float | None, tpot: float | None, kept: bool) -> None:
    assert within_budget(STAMPS, ttft, tpot) is kept


def test_without_a_budget_there_is_nothing_to_keep() -> None:
    assert within_budget(STAMPS, None, None) is None


def test_a_failed_request_keeps_no_budget() -> None:
    assert within_budget(timed("a", tokens=0, error="out of memory"), 1e9, None) is False


def test_requests_that_failed_or_were_skipped_are_not_served() -> None:
    records = [timed("a"), timed("b", error="x"), timed("c", skipped="too long"), timed("d", tokens=0)]
    assert [one.id for one in finished(records)] == ["a"]


def test_at_batch_one_the_dialogue_is_the_unit() -> None:
    units = served_together([timed("a", repeat=0), timed("a", repeat=1), timed("b")])
    assert {name: sorted(repeats) for name, repeats in units.items()} == {"a": [0, 1], "b": [0]}


def test_in_a_batch_the_batch_is_the_unit() -> None:
    records = [timed(name, batch=2, submitted_ms=start) for name, start in zip("abcd", (0, 0, 9, 9), strict=True)]
    units = served_together(records)
    assert {name: [one.id for one in repeats[0]] for name, repeats in units.items()} == {
        "a": ["a", "b"],
        "c": ["c", "d"],
    }


def test_a_batch_makes_its_size_in_tokens_a_step_however_it_was_recorded() -> None:
    as_one = [timed("batch", batch=4, workload="sweep")]
    as_four = [timed(name, batch=4, workload="sweep") for name in "abcd"]
    assert tokens_per_s(as_one) == tokens_per_s(as_four) == pytest.approx(4 * 5 / 0.090)
