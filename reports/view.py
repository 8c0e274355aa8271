"""A run folder as the page sees it: every file read once, with the lookups that all sections share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from harness.gating.statistics import RunStatistics, known_metrics
from harness.gating.verdict import CheckResult, GateResult
from harness.leaderboard.standing import MIN_COVERAGE, Contender, Place, stand
from harness.results.measurements import Measurements
from harness.store.folder import RunFolder
from harness.store.indexed import RowSequence
from harness.store.paths import without_paths
from harness.store.schema import (
    ComparisonRow,
    DialogueRow,
    EstimateRow,
    MetricSummary,
    ReplyRow,
    RunManifest,
    Summary,
)
from harness.store.seals import edited
from reports.gate_view import read_gate
from reports.numbers import is_share, unit_word
from reports.pairs import Pair, pairs_of
from reports.question import Frame, frame
from reports.words import FAMILY_ORDER, metric_label

OVERLAP = ("quality.rouge_l", "quality.rouge_lsum", "quality.rouge_1", "quality.chrf", "quality.bleu")
LIKELIHOOD = ("quality.nll",)
TIME = ("latency.tpot_ms.p50", "latency.e2e_ms.p50", "latency.e2e_ms.p95", "latency.ttft_ms.p50")
MEMORY = ("memory.peak_allocated_mib", "memory.peak_rss_mib", "memory.weights_mib")


@dataclass(frozen=True)
class RunView:
    """One run, or one of its further sets (``set``). ``replies`` maps a variant to its rows by dialogue id.

    Rows are read each time they are asked for. ``about`` is the variant to speak of, where one is chosen.
    """

    folder: RunFolder
    manifest: RunManifest
    summary: Summary
    dialogues: RowSequence[DialogueRow]
    replies: Mapping[str, Mapping[str, ReplyRow]]
    gate: GateResult | None
    redacted: bool = False
    set: str = ""
    about: str = ""

    def of_set(self, name: str) -> RunView:
        """Return the numbers of a further set; its dialogues and replies are for its own page."""
        found = self.summary.sets[name]
        summary = Summary(metrics=found.metrics, comparisons=found.comparisons, coverage=found.coverage)
        folder = self.folder.set_folder(name)
        return replace(self, folder=folder, summary=summary, dialogues=RowSequence({}), replies={}, set=name)

    @cached_property
    def further_sets(self) -> tuple[str, ...]:
        """The names of the run's sets but the first, which is the one that the page is about."""
        return tuple(self.summary.sets)[1:]

    @cached_property
    def checks(self) -> tuple[CheckResult, ...]:
        """The gate's checks on this set."""
        first = next(iter(self.manifest.sets), "")
        found = self.gate.checks if self.gate else ()
        return tuple(check for check in found if (check.set or first) == (self.set or first))

    @cached_property
    def measurements(self) -> Measurements:
        """The data behind the summary, for charts that show more than an estimate."""
        return Measurements(self.folder, registry={}, manifest=self.manifest)

    @cached_property
    def name(self) -> str:
        """The folder's name, preceded by its parent's if the folder is just called ``run``; of a set, by its run's."""
        root, whole = self.folder.root.resolve(), self.folder.whole()
        if whole is not None:
            return f"{whole.root.name}/sets/{root.name}"
        return f"{root.parent.name}/{root.name}" if root.name == "run" else root.name

    @cached_property
    def facts(self) -> Mapping[str, Mapping[str, object]]:
        """The manifest's entry for each variant."""
        return {str(row.get("name")): row for row in self.manifest.variants}

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Every variant, in the run's order; those that only the summary has come last."""
        measured = [name for metric in self.summary.metrics.values() for name in metric.variants]
        return tuple(dict.fromkeys([*self.facts, *measured, *self.summary.coverage]))

    @cached_property
    def reference(self) -> str | None:
        """The variant that differences are relative to."""
        return self.manifest.reference_among(self.variants)

    @cached_property
    def candidate(self) -> str | None:
        """The variant that the page is about: the one chosen or gated, else the first adapter, merged or other one."""
        if self.about in self.variants:
            return self.about
        if self.gate and self.gate.candidate in self.variants:
            return self.gate.candidate
        others = [name for name in self.variants if name != self.reference]
        for kind in ("adapter", "merged"):
            if found := next((name for name in others if self.kind(name) == kind), None):
                return found
        return next(iter(others), None)

    @cached_property
    def merged(self) -> str | None:
        """The merged variant, if the candidate is an adapter and it is not known to come from another."""
        if self.candidate is None or self.kind(self.candidate) != "adapter":
            return None
        merged = (name for name in self.variants if self.kind(name) == "merged")
        return next((name for name in merged if self._unmerged(name) in (None, self.candidate)), None)

    def kind(self, variant: str) -> str:
        return str(self.facts.get(variant, {}).get("kind") or "")

    def counterpart(self, variant: str) -> str | None:
        """Return the variant whose replies this one should reproduce: merged → adapter, quantised base → base."""
        if self.kind(variant) == "merged":
            adapters = (name for name in self.variants if self.kind(name) == "adapter")
            return self._unmerged(variant) or next(adapters, None)
        if self.kind(variant) == "base" and variant != self.reference and self.reference:
            ours, theirs = self.facts.get(variant, {}), self.facts.get(self.reference, {})
            same = all(ours.get(key) == theirs.get(key) for key in ("model", "model_digest"))
            return self.reference if same else None
        return None

    @cached_property
    def main_measures(self) -> tuple[str, ...]:
        """The metric of closeness to the references and that of their likelihood, where they were measured."""
        return tuple(name for name in (self.measured(OVERLAP), self.measured(LIKELIHOOD)) if name)

    @cached_property
    def judged_by(self) -> str | None:
        """The metric that dialogues are ordered by."""
        return next(iter(self.main_measures), None)

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The candidate's replies against the reference's, by ``judged_by``."""
        return tuple(pairs_of(self, self.judged_by))

    @cached_property
    def frame(self) -> Frame:
        """The words that the template puts around every dialogue."""
        return frame(row.prompt for row in self.dialogues)

    @cached_property
    def _comparisons(self) -> Mapping[tuple[str, str, str], ComparisonRow]:
        return {(row.metric, row.variant, row.against): row for row in self.summary.comparisons}

    def comparison(self, metric: str, variant: str | None, against: str | None = None) -> ComparisonRow | None:
        """Return the difference of ``variant`` to ``against`` (default: the reference variant) if the run has it."""
        against = against or self.reference
        return None if variant is None or against is None else self._comparisons.get((metric, variant, against))

    def estimate(self, metric: str | None, variant: str | None) -> EstimateRow | None:
        found = self.summary.metrics.get(metric or "")
        return None if found is None or variant is None else found.variants.get(variant)

    def metric(self, name: str) -> MetricSummary | None:
        return self.summary.metrics.get(name)

    def label(self, name: str) -> str:
        found = self.summary.metrics.get(name)
        return (found.label if found else "") or metric_label(name)

    def unit(self, name: str) -> str:
        """Return a metric's unit to print next to its label; empty if the numbers or the label include it."""
        unit = self.summary.metrics[name].unit
        shown = "" if is_share(unit) or unit == "MiB" else unit_word(unit)
        return "" if shown.casefold() == self.label(name).casefold() else shown

    def measured(self, names: tuple[str, ...]) -> str | None:
        """Return the first of ``names`` that the run measured for any variant."""
        for name in names:
            found = self.metric(name)
            if found and any(row.value is not None for row in found.variants.values()):
                return name
        return None

    def names(self, family: str) -> tuple[str, ...]:
        """Return the run's metrics of one family, in the summary's order."""
        return tuple(name for name in self._found if name.split(".", 1)[0] == family)

    @cached_property
    def _found(self) -> tuple[str, ...]:
        return tuple(name for name in self.summary.metrics if name not in self.nowhere)

    @cached_property
    def nowhere(self) -> frozenset[str]:
        """The metrics that were requested but have no value for any variant."""
        metrics = self.summary.metrics.items()
        return frozenset(name for name, found in metrics if all(row.value is None for row in found.variants.values()))

    @cached_property
    def families(self) -> tuple[str, ...]:
        """Return the families that the run measured, known ones first."""
        found = dict.fromkeys(name.split(".", 1)[0] for name in self._found)
        return (
            *(name for name in FAMILY_ORDER if name in found),
            *(name for name in found if name not in FAMILY_ORDER),
        )

    def against_of(self, metric: str, variant: str) -> str | None:
        """Return what a fidelity metric compared ``variant`` with, from its conditions."""
        return self._measured_against(metric, variant) or self.counterpart(variant)

    def _unmerged(self, merged: str) -> str | None:
        """Return the adapter that the fidelity pass compared a merged variant with; None if it did not."""
        against = self._measured_against("fidelity.kl", merged)
        return against if against is not None and self.kind(against) == "adapter" else None

    def _measured_against(self, metric: str, variant: str) -> str | None:
        found = self.metric(metric)
        against = found.conditions.get("against") if found else None
        if isinstance(against, Mapping):
            against = against.get(variant)
        return str(against) if against else None

    @cached_property
    def sliced_by(self) -> frozenset[str]:
        """The columns that the run is sliced by, which are kept when texts are redacted."""
        stats = self.manifest.config.get("stats")
        columns = stats.get("slices") if isinstance(stats, Mapping) else None
        asked = {str(column) for column in columns} if isinstance(columns, (list, tuple)) else set()
        return frozenset(asked | {row.column for row in self.summary.slices})

    @cached_property
    def contenders(self) -> tuple[str, ...]:
        """The variants to choose from: the adapters; of scored reply files, all systems but the reference."""
        if self.manifest.kind == "score":
            return tuple(name for name in self.variants if name != self.reference)
        return tuple(name for name in self.variants if self.kind(name) == "adapter")

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Where each of several contenders stands by the headline metric; empty if the run has none to choose from."""
        metric = self.headline_metric
        found = {name: self.estimate(metric, name) for name in self.contenders}
        answered = {name: one.answered for name, one in self.summary.coverage.items() if name in found}
        enough = MIN_COVERAGE * max(answered.values(), default=0)
        values = {
            name: row.value
            for name, row in found.items()
            if row and row.value is not None and math.isfinite(row.value) and answered.get(name, 0) >= enough
        }
        if metric is None or len(values) < 2:
            return ()
        analysis = RunStatistics(self.folder, registry=known_metrics(self.summary))
        return stand([Contender(analysis, name, value) for name, value in values.items()], metric)

    @cached_property
    def headline_metric(self) -> str | None:
        """The metric by which the replies are said to be closer to the references."""
        return self.measured((*OVERLAP, *LIKELIHOOD))

    @cached_property
    def missing(self) -> int:
        """The number of dialogues that the candidate did not answer, including skipped ones."""
        coverage = self.summary.coverage.get(self.candidate or self.reference or "")
        return max(0, coverage.dialogues - coverage.answered) if coverage else 0


def read_view(folder: RunFolder, *, redact_text: bool = False, about: str = "") -> RunView:
    """Read a run folder; raise InputError if it is not one or is not finished.

    The machine's absolute paths are left out, and files changed since the run ended are among its warnings. A view that
    is chosen to be ``about`` a variant has no gate's verdict on another one.
    """
    sealed = folder.read_manifest()
    warnings = (*sealed.warnings, *edited(folder, sealed))
    manifest = without_paths(sealed.model_copy(update={"warnings": warnings}))
    summary = folder.read_summary()
    names = [str(row.get("name")) for row in manifest.variants]
    gate = read_gate(folder)
    return RunView(
        folder=folder,
        manifest=manifest,
        summary=summary,
        dialogues=RowSequence(folder.dialogues_by_id()),
        replies={name: folder.replies_by_id(name) for name in names},
        gate=gate if not about or (gate and gate.candidate == about) else None,
        redacted=redact_text,
        about=about,
    )
