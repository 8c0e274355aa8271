"""A comparison with an earlier run: its values, and paired differences if both runs have the same dialogues."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.gating.statistics import known_metrics
from harness.metrics.measured import MEASURED
from harness.metrics.registry import MetricSpec
from harness.results.analysis import Analysis
from harness.stats.types import Difference
from harness.store import seals
from reports.cells import Earlier
from reports.differences import difference_text, silence
from reports.numbers import amount
from reports.view import RunView
from reports.words import OUTCOMES

_RESAMPLES = 10_000


def earlier_cells(
    view: RunView, baseline: RunView, against: Mapping[str, str] | None = None
) -> Mapping[tuple[str, str], Earlier]:
    """Return the earlier run's cell for each metric and variant name.

    ``against`` names the earlier run's variant for each of this run's (absent: the one of the same name). A difference
    is this run minus the earlier one, paired by dialogue. If the two are not comparable, the cell says why; times and
    memory have no difference, because the runs were not measured alternately.
    """
    pairs = _Pairs(view, baseline)
    pairing = {variant: variant for variant in view.variants} if against is None else against
    cells: dict[tuple[str, str], Earlier] = {}
    for name, metric in view.summary.metrics.items():
        for variant, then in pairing.items():
            row = baseline.estimate(name, then)
            if row is None or row.value is None or view.estimate(name, variant) is None:
                continue
            obstacle = pairs.obstacle(name)
            value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
            if obstacle:
                cells[name, variant] = Earlier(value, obstacle=obstacle, order=row.value)
                continue
            difference = pairs.difference(name, variant, then)
            if difference is None or difference.value is None:
                cells[name, variant] = Earlier(value, interval=interval, order=row.value)
            else:
                change = difference_text(difference, metric.unit)
                quiet = silence(difference, metric.unit)
                cells[name, variant] = Earlier(value, *change, OUTCOMES[difference.outcome], quiet, order=row.value)
    return cells


def other_data(view: RunView, baseline: RunView) -> str:
    """Return why the dialogues of two runs cannot be paired; empty if they can."""
    return _Pairs(view, baseline).other_data


@dataclass(frozen=True)
class _Pairs:
    """This run and the earlier one, and what may be compared between them."""

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
        """Why the dialogues of the two runs cannot be paired; empty if they can."""
        now, then = self.view.manifest, self.baseline.manifest
        for key in (seals.REFERENCES, seals.PROMPTS):
            ours, theirs = now.digests.get(key), then.digests.get(key)
            if ours and theirs and ours != theirs:
                return "different dialogues" if key == seals.REFERENCES else "different prompts"
        shared = {row.id for row in self.view.dialogues} & {row.id for row in self.baseline.dialogues}
        if not shared:
            return "no dialogue in common"
        return "" if now.template_digest == then.template_digest else "different template"

    def obstacle(self, name: str) -> str:
        """Return why the metric cannot be compared between the runs; empty if it can."""
        now, then = self.view.summary.metrics[name], self.baseline.summary.metrics[name]
        if now.signature != then.signature or now.unit != then.unit:
            return "measured differently"
        if name.startswith(("memory.", "latency.")):
            return ""
        return self.other_data

    def difference(self, name: str, variant: str, then: str) -> Difference | None:
        """Return a variant minus one of the earlier run, or None if the metric has no paired difference."""
        if name.split(".", 1)[0] in MEASURED or name.partition("[")[0] not in self.specs:
            return None
        ours, theirs = self.analyses
        if variant not in ours.measured.variants_of(name) or then not in theirs.measured.variants_of(name):
            return None
        return ours.difference(name, variant, then, other=theirs)
