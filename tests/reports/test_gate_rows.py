"""The gate's checks as the page lists them."""

from __future__ import annotations

from reports.gate_rows import gate_rows
from tests.reports.small_view import checked, compared, gated, make_view


def test_the_checks_that_decide_come_first() -> None:
    checks = (
        checked("pass", "quality.nll", id="c"),
        checked("fail", "quality.bleu", id="b", severity="warn"),
        checked("fail", "quality.chrf", id="a"),
    )
    view = make_view(compared("quality.nll", "better", 0.1), gate=gated("fail", *checks))
    assert [(row.ids, row.stops) for row in gate_rows(view)] == [("a", True), ("b", False), ("c", True)]


def test_a_check_says_whose_values_it_is_about_and_over_how_many() -> None:
    check = checked("pass", "quality.nll", id="a", against="base", n=1200, slice="condition=asthma")
    view = make_view(compared("quality.nll", "better", 0.1), gate=gated("pass", check))
    assert gate_rows(view)[0].about == "adapter against base where condition=asthma, 1,200 dialogues"


def test_one_reason_for_several_checks_is_told_once() -> None:
    checks = [checked("error", name, id=name, sentence="It was not measured.") for name in ("quality.a", "quality.b")]
    view = make_view(compared("quality.nll", "better", 0.1), gate=gated("error", *checks))
    assert [row.ids for row in gate_rows(view)] == ["quality.a, quality.b"]
