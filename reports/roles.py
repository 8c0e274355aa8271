"""One look for each role, in every table and chart of every report: base, adapter, merged, and further systems."""

from __future__ import annotations

from dataclasses import dataclass

from reports.figures.svg import MARKERS, Colour
from reports.view import RunView

_ROLES: dict[str, tuple[Colour, str]] = {
    "base": ("s1", "circle"),
    "adapter": ("s3", "square"),
    "merged": ("s2", "diamond"),
}
_FURTHER: tuple[Colour, ...] = ("s4", "s6", "s8", "s7", "s5")
_FURTHER_MARKS = tuple(mark for mark in MARKERS if mark not in {mark for _, mark in _ROLES.values()})


@dataclass(frozen=True)
class Look:
    """How one variant is drawn everywhere: colour and mark, so that colour is never the only carrier."""

    colour: Colour
    marker: str


def look(view: RunView, variant: str) -> Look:
    """Return a variant's look: its role's for the first of each role, else one of the further ones in the run's order.

    A reference variant of unknown kind has the base's.
    """
    firsts: dict[str, str] = {}
    for name in view.variants:
        firsts.setdefault(view.kind(name), name)
    if view.reference and view.kind(view.reference) not in _ROLES:
        firsts.setdefault("base", view.reference)
    roles = {name: role for role, name in firsts.items() if role in _ROLES}
    if variant in roles:
        return Look(*_ROLES[roles[variant]])
    index = [name for name in view.variants if name not in roles].index(variant)
    return Look(_FURTHER[index % len(_FURTHER)], _FURTHER_MARKS[index % len(_FURTHER_MARKS)])
