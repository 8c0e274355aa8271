"""Which variants of several runs are the same system: by the digest of their weights, not by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.variants.digests import is_present
from reports.view import LIKELIHOOD, OVERLAP, RunView


@dataclass(frozen=True)
class Identity:
    """What a variant computes with. ``weights`` is None where no digest is known, as for replies from files."""

    name: str
    weights: str | None
    how: tuple[str, str] = ("", "")  # quantisation and dtype

    def is_same(self, other: Identity) -> bool:
        """Return whether two variants are one system; where their digests do not say so, whether they have one name.

        A digest of 0.1.0 and a later one have another form, so that they may be of the same weights.
        """
        known = self.weights is not None and other.weights is not None
        if known and is_present(str(self.weights)) == is_present(str(other.weights)):
            return (self.weights, self.how) == (other.weights, other.how)
        return self.name == other.name


@dataclass(frozen=True)
class System:
    """A system in several runs. ``names[k]`` is its name in run k, None where that run does not have it.

    ``against[k]`` is the variant of the first run that it is compared with there: itself, else one of the same name and
    other weights, else None.
    """

    identity: Identity
    names: tuple[str | None, ...]
    against: tuple[str | None, ...]

    @property
    def name(self) -> str:
        """Its names, the first run's first."""
        return " / ".join(dict.fromkeys(name for name in self.names if name))

    @property
    def is_in_first(self) -> bool:
        return self.names[0] is not None

    @property
    def runs(self) -> tuple[int, ...]:
        """The positions of the runs that have it."""
        return tuple(k for k, name in enumerate(self.names) if name is not None)


def matched(views: Sequence[RunView]) -> tuple[System, ...]:
    """Return the systems of the runs, best first by ``lead`` in the last run that has each."""
    found: list[tuple[Identity, list[str | None]]] = []
    for k, view in enumerate(views):
        known_names = {name for _, names in found for name in names}
        # Two names in one run may have the same weights: each stays with its own name where it can.
        for one in (_identity(view, name) for name in sorted(view.variants, key=lambda name: name not in known_names)):
            free = [(known, names) for known, names in found if names[k] is None and known.is_same(one)]
            namesakes = [names for known, names in free if one.name in names]
            if free:
                (namesakes or [names for _, names in free])[0][k] = one.name
            else:
                found.append((one, [*[None] * k, one.name, *[None] * (len(views) - k - 1)]))
    made = [System(identity, tuple(names), _against(views[0], names)) for identity, names in found]
    return tuple(sorted(made, key=lambda system: _rank(views, system)))


def lead(views: Sequence[RunView]) -> str | None:
    """Return the metric to rank systems by: of overlap or likelihood, and one that every run has if there is any."""
    measured = [name for name in (*OVERLAP, *LIKELIHOOD) if any(view.measured((name,)) for view in views)]
    everywhere = [name for name in measured if all(view.measured((name,)) for view in views)]
    return next(iter([*everywhere, *measured]), None)


def _identity(view: RunView, name: str) -> Identity:
    facts = view.facts.get(name, {})
    how = (str(facts.get("quantization") or "none"), str(facts.get("dtype") or ""))
    return Identity(name, view.manifest.digests.get(f"weights/{name}"), how)


def _against(first: RunView, names: Sequence[str | None]) -> tuple[str | None, ...]:
    namesakes = (name if name in first.variants else None for name in names[1:])
    return None, *(names[0] or namesake if name else None for name, namesake in zip(names[1:], namesakes, strict=True))


def _rank(views: Sequence[RunView], system: System) -> tuple[bool, float]:
    name, last = lead(views), system.runs[-1]
    row = views[last].estimate(name, system.names[last]) if name else None
    if name is None or row is None or row.value is None:
        return True, 0.0
    return False, -row.value if views[last].summary.metrics[name].higher_is_better else row.value
