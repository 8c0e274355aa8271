"""The page's first line where the gate and the replies disagree."""

from __future__ import annotations

from reports.decision import decide
from tests.reports.small_view import checked, gated, make_view

EMPTY = {"quality.empty": {"base": 0.0, "adapter": 1.0}}


def test_a_gate_that_passes_does_not_ship_replies_whose_fault_no_check_sees() -> None:
    decided = decide(make_view(values=EMPTY, gate=gated("pass", checked("pass"))))
    reason = "the gate passes, but the adapter leaves 100\u00a0% of its replies empty, which no check sees"
    assert (decided.word, decided.reason) == ("Not yet", reason)


def test_a_fault_that_a_check_allows_is_the_gates_to_decide() -> None:
    judged = checked("pass", metric="quality.empty")
    assert decide(make_view(values=EMPTY, gate=gated("pass", judged))).word == "Ship"
