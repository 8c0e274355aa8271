"""How to read the page: its terms (``assets/terms.yaml``), and what each metric sees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from reports.numbers import plain
from reports.view import RunView


@dataclass(frozen=True)
class Term:
    """A term of the page. ``needs`` is the prefix of the metrics that it explains; empty: always shown."""

    word: str
    says: str
    needs: str = ""


_OWN_METRIC = "See the module that defines it; this page does not execute it."


def terms(view: RunView) -> tuple[Term, ...]:
    """Return the terms that this run's page uses."""
    names = (*view.summary.metrics, *(["slices"] if view.summary.slices else []))
    text = (Path(__file__).parent / "assets" / "terms.yaml").read_text(encoding="utf-8")
    known = [Term(**row) for row in yaml.safe_load(text)]
    shown = [term for term in known if not term.needs or any(name.startswith(term.needs) for name in names)]
    stats = view.manifest.config.get("stats")
    resamples = stats.get("resamples") if isinstance(stats, Mapping) else None
    times = f" {plain(float(resamples), 0)} times" if isinstance(resamples, int) else ""
    return tuple(replace(term, says=term.says.replace("{resamples}", times)) for term in shown)


@dataclass(frozen=True)
class Sight:
    """What a metric sees and what it cannot see, as it declares."""

    label: str
    sees: str
    blind_to: str


def sights(view: RunView) -> tuple[Sight, ...]:
    """Return what the run's metrics see and cannot see.

    For custom metrics the page refers to their modules, because rendering a page never executes them.
    """
    from harness.metrics.loading import all_specs

    specs = all_specs()
    found = []
    for name in view.summary.metrics:
        base = name.partition("[")[0]
        if base not in specs:
            found.append(Sight(view.label(name), f"A custom metric, {name}.", _OWN_METRIC))
        elif name in specs and (specs[name].sees or specs[name].blind_to):
            found.append(Sight(view.label(name), specs[name].sees, specs[name].blind_to))
    return tuple(found)
