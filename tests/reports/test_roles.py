"""Each role looks the same in every report."""

from __future__ import annotations

from reports.roles import look
from tests.reports.small_view import make_view


def test_a_role_keeps_its_colour_whatever_else_the_run_has() -> None:
    few, many = (make_view(variants=names) for names in (("base", "merged"), ("base", "base-nf4", "adapter", "merged")))
    assert [look(few, name) for name in ("base", "merged")] == [look(many, name) for name in ("base", "merged")]


def test_no_two_variants_of_a_run_look_alike() -> None:
    names = ("base", "base-nf4", "adapter", "merged", "a", "b", "c")
    view = make_view(variants=names)
    looks = [look(view, name) for name in names]
    assert len({its.colour for its in looks}) == len(names)
    assert len({its.marker for its in looks}) == len(names)


def test_a_reference_of_unknown_kind_looks_like_a_base() -> None:
    systems, base = make_view(variants=("gpt", "ours")), make_view()
    assert look(systems, "gpt") == look(base, "base")
    assert look(systems, "ours") not in {look(base, name) for name in ("base", "adapter")}
