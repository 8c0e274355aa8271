"""An earlier run beside this one: its values, and paired differences where both hold the same dialogues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.gating.statistics import known_metrics
from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.stats.types import Difference
from harness.store import seals
from reports.cells import Earlier, difference_text
from reports.numbers import amount
from reports.view import RunView
from reports.words import OUTCOMES

_VALUES_ONLY = ("fidelity", "latency", "memory")  # nothing of two runs was measured in turn
_RESAMPLES = 10_000


def earlier_cells(view: RunView, baseline: RunView) -> Mapping[tuple[str, str], Earlier]:
    """Return, by metric and variant, what the earlier run has for the variant of the same name.

    A difference is this run minus the earlier one, paired by dialogue. Where the two are not comparable the cell says
    why; times and memory are shown without a difference, because the runs did not take turns on the machine.
    """
    pairs = _Pairs(view, baseline)
    cells: dict[tuple[str, str], Earlier] = {}
    for name, metric in view.summary.metrics.items():
        for variant in view.variants:
            row = baseline.estimate(name, variant)
            if row is None or row.value is None or view.estimate(name, variant) is None:
                continue
            obstacle = pairs.obstacle(name)
            value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
            if obstacle:
                cells[name, variant] = Earlier(value, obstacle=obstacle)
            else:
                cells[name, variant] = _with_change(value, interval, pairs.difference(name, variant), metric.unit)
    return cells


def _with_change(value: str, interval: str, difference: Difference | None, unit: str) -> Earlier:
    if difference is None or difference.value is None:
        return Earlier(value, interval=interval)
    change, bounds = difference_text(difference, unit)
    return Earlier(value, change, bounds, OUTCOMES[difference.outcome])


@dataclass(frozen=True)
class _Pairs:
    """Two runs, this one and the earlier one, and what may be compared between them."""

    view: RunView
    baseline: RunView

    @cached_property
    def specs(self) -> Mapping[str, MetricSpec]:
        return known_metrics(self.view.summary)

    @cached_property
    def analyses(self) -> tuple[Analysis, Analysis]:
        ours = Analysis(self.view.folder, registry=self.specs, resamples=_RESAMPLES)
        return ours, Analysis(self.baseline.folder, registry=self.specs, resamples=_RESAMPLES)

    @cached_property
    def other_data(self) -> str:
        """Why the dialogues of the two runs cannot be paired; empty where they can."""
        now, then = self.view.manifest, self.baseline.manifest
        for key in (seals.REFERENCES, seals.PROMPTS):
            ours, theirs = now.digests.get(key), then.digests.get(key)
            if ours and theirs and ours != theirs:
                return "other dialogues" if key == seals.REFERENCES else "other prompts"
        shared = {row.id for row in self.view.dialogues} & {row.id for row in self.baseline.dialogues}
        if not shared:
            return "no dialogue in common"
        return "" if now.template_digest == then.template_digest else "another template"

    def obstacle(self, name: str) -> str:
        """Return why the metric cannot be compared between the runs; empty where it can."""
        now, then = self.view.summary.metrics[name], self.baseline.summary.metrics[name]
        if now.signature != then.signature or now.unit != then.unit:
            return "measured in another way"
        if name.startswith(("memory.", "latency.")):
            return ""
        return self.other_data

    def difference(self, name: str, variant: str) -> Difference | None:
        """Return this run minus the earlier one, or None where the metric has no paired difference."""
        if name.split(".", 1)[0] in _VALUES_ONLY or name.partition("[")[0] not in self.specs:
            return None
        ours, theirs = self.analyses
        if variant not in ours.measured.variants_of(name) or variant not in theirs.measured.variants_of(name):
            return None
        return ours.difference(name, variant, variant, other=theirs)
