"""A run as the gate sees it, judged or baseline, and whether two of them may be compared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

from harness.files import digest_file
from harness.gating.evidence import Share
from harness.gating.remedies import not_measured
from harness.gating.sentences import listed
from harness.gating.statistics import RunStatistics
from harness.gating.verdict import RunFacts
from harness.metrics.registry import MetricSpec
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.schema import RunManifest, Summary

_HOW_OFTEN = {"budget_minutes", "precision", "prompts", "batches", "repeats"}


@dataclass(frozen=True)
class Side:
    """One run folder, complete and unedited. ``name`` is the baseline's, or empty for the run being judged."""

    folder: RunFolder
    manifest: RunManifest
    summary: Summary
    registry: Mapping[str, MetricSpec]
    statistics: RunStatistics
    name: str = ""

    @cached_property
    def variants(self) -> tuple[str, ...]:
        """Names of the variants, in the run's order."""
        named = [str(variant["name"]) for variant in self.manifest.variants if "name" in variant]
        return tuple(dict.fromkeys([*named, *self.summary.coverage]))

    @cached_property
    def dialogue_ids(self) -> frozenset[str]:
        """Ids of all dialogues of the run, answered or not."""
        return frozenset(self.statistics.measured.units.ids)

    def share(self, variant: str) -> Share:
        """Return how many of the run's dialogues the variant answered."""
        label = f"{variant} of baseline {self.name}" if self.name else variant
        coverage = self.summary.coverage.get(variant)
        if coverage is None:
            return Share(label, 0, len(self.dialogue_ids))
        context = self.manifest.provenance.get(f"context_length/{variant}")
        return Share(
            label,
            coverage.answered,
            max(coverage.dialogues, len(self.dialogue_ids)),
            missing=coverage.skipped,
            context=context if isinstance(context, int) else None,
        )

    def readable(self, metric: str, variant: str) -> Share | None:
        """Return how many dialogues the metric can read, if there are any that it cannot: in another language."""
        unread = self.statistics.measured.replies.undefined(metric, variant)
        if not unread:
            return None
        total = len(self.dialogue_ids)
        of = f"{variant} of baseline {self.name}" if self.name else variant
        return Share(f"{metric} of {of}", total - unread.total(), total, did="is defined for", missing=unread)

    def measured(self, metric: str, variant: str) -> str | None:
        """Return why this variant has no value of the metric, or None if it has one."""
        of_run = f" in baseline {self.name}" if self.name else ""
        summary, family = self.summary.metrics.get(metric), metric.split(".")[0]
        if summary is None:
            others = [name for name in self.summary.metrics if name.split(".")[0] == family and "[" not in name]
            return not_measured(metric, of_run, others=others)
        if variant not in summary.variants:
            coverage = self.summary.coverage.get(variant)
            why = coverage.not_measured.get(family) if coverage else None
            return not_measured(metric, f" for {variant}{of_run}", why=why)
        if self.statistics.needs_its_module(metric, variant):
            return (
                f"{metric}{of_run} is combined by the run's own module, which the gate does not execute, so it cannot "
                "be judged. Of custom metrics, only means and rates can."
            )
        return None


def facts_of(folder: RunFolder, manifest: RunManifest) -> RunFacts:
    """Return what identifies a run: its folder's name, the digest of its run.json, its start and commit."""
    git = manifest.provenance.get("git")
    commit = git.get("commit") if isinstance(git, dict) else None
    return RunFacts(
        name=folder.root.resolve().name,
        digest=digest_file(folder.manifest_path),
        numbers_digest=seals.numbers_digest(folder),
        config_digest=manifest.config_digest,
        started=manifest.started,
        git_commit=commit if isinstance(commit, str) else None,
    )


def incomparable(run: Side, variant: str, baseline: Side, against: str, metric: str) -> str | None:
    """Return why a metric of two runs may not be compared, or None if it may.

    These must agree in ``run.json`` and ``summary.json``: the dialogues' ids, their references
    (``digests["content:references"]``), ``template_digest`` and the rendered prompts (``digests["content:prompts"]``),
    ``config["generation"]``, the metric's signature and conditions; for latency and memory also the device, the GPU
    (on a CPU: the CPU and ``config["threads"]``) of ``provenance["hardware"]``, ``config["latency"]`` or
    ``config["memory"]`` (but how often they measure), and the variants' ``dtype`` and ``quantization``.
    """
    of = f"than baseline {baseline.name}'s"
    ours, old = run.summary.metrics[metric], baseline.summary.metrics[metric]
    identities: list[tuple[str, object, object]] = [
        ("metric signature", ours.signature, old.signature),
        ("prompt template", run.manifest.template_digest, baseline.manifest.template_digest),
        ("decoding", run.manifest.config.get("generation"), baseline.manifest.config.get("generation")),
        ("set of measuring conditions", ours.conditions, old.conditions),
    ]
    for what, one, other in identities:
        if one != other:
            return f"The run has another {what} {of}: {_shown(one)}, not {_shown(other)}."
    if run.dialogue_ids != baseline.dialogue_ids:
        only_here = sorted(run.dialogue_ids - baseline.dialogue_ids)
        only_there = sorted(baseline.dialogue_ids - run.dialogue_ids)
        return (
            f"The run's dialogues differ from those of baseline {baseline.name}: {len(only_here)} are only in the run "
            f"and {len(only_there)} only in the baseline (e.g. {listed(only_here or only_there, 3)})."
        )
    for key, what in ((seals.REFERENCES, "references"), (seals.PROMPTS, "rendered prompts")):
        mine, theirs = run.manifest.digests.get(key), baseline.manifest.digests.get(key)
        if mine is None or mine != theirs:
            return f"The dialogues' {what} differ from those of baseline {baseline.name}: another dataset or template."
    if metric.split(".")[0] in ("latency", "memory"):
        return _other_machine(run, variant, baseline, against, metric.split(".")[0])
    return None


def _other_machine(run: Side, variant: str, baseline: Side, against: str, family: str) -> str | None:
    mine, theirs = hardware_of(run.manifest), hardware_of(baseline.manifest)
    if mine is None or theirs is None:
        return f"The device that measured {family} is not recorded in both runs, so they cannot be compared."
    if mine != theirs:
        return f"The run was measured on a different device than baseline {baseline.name}: {mine}, not {theirs}."
    if workload_of(run.manifest, family) != workload_of(baseline.manifest, family):
        return f"The run's {family} workload differs from that of baseline {baseline.name}."
    for key in ("dtype", "quantization"):
        one, two = _variant(run.manifest, variant).get(key), _variant(baseline.manifest, against).get(key)
        if one != two:
            return f"{variant} has another {key} than {against} of baseline {baseline.name}: {one}, not {two}."
    return None


def workload_of(manifest: RunManifest, family: str) -> dict[str, object]:
    """Return the family's settings but those that only say how often something was measured: n shows that."""
    settings = manifest.config.get(family)
    found = settings.items() if isinstance(settings, dict) else ()
    return {name: value for name, value in found if name not in _HOW_OFTEN}


def hardware_of(manifest: RunManifest) -> str | None:
    """Return what the run was measured on, in words; None if it is not known."""
    hardware = manifest.provenance.get("hardware")
    if not isinstance(hardware, dict):
        return None
    device = str(manifest.provenance.get("device") or manifest.config.get("device") or "auto").split(":")[0]
    gpu, cpu = hardware.get("gpu"), hardware.get("cpu")
    if gpu and device != "cpu":
        spread = manifest.provenance.get("device") == "cuda"  # without a number: over all GPUs
        return f"{_shown(gpu)}, layers spread over all" if spread else _shown(gpu)
    return f"{_shown(cpu)}, {_shown(manifest.config.get('threads') or 'all')} threads" if cpu else None


def _variant(manifest: RunManifest, name: str) -> dict[str, object]:
    return next((variant for variant in manifest.variants if variant.get("name") == name), {})


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=True, default=str)
    return text if len(text) <= 120 else text[:119] + "…"
