"""One run from config to a folder ready for the report: prepare, measure, compute.

``prepare`` finds all errors in the input before anything is written; ``measure`` appends records and can be interrupted
and resumed at any time; ``compute`` derives everything else from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.choose import Open, import_libraries, open_backends
from harness.config import RunConfig
from harness.files import digest_value, write_rows
from harness.jobs.compute import compute, metrics_of
from harness.jobs.guard import check_belongs, failures_recorded, locked, refuse_edited, remove_outdated
from harness.jobs.load_tests import read_load_tests
from harness.jobs.prepare import Prepared, prepare
from harness.machine import usable_cores, without_collecting_the_old
from harness.passes.base import PassContext
from harness.passes.keys import config_digest
from harness.passes.registry import find, in_order
from harness.progress import SENTENCES, EventKind, Progress, ShownProgress, SilentProgress
from harness.results.scored_ahead import ScoredAhead
from harness.store.folder import RunFolder, prune_records
from harness.store.provenance import now, provenance
from harness.store.schema import RunManifest, SanityCheck
from harness.variants.folders import (
    stated_dtype,
)


def run(
    config: RunConfig,
    out: Path | str,
    *,
    progress: Progress | None = None,
    config_folder: Path | None = None,
    backends: Open = open_backends,
) -> RunFolder:
    """Measure what the config says into the folder ``out``, resuming an interrupted run.

    Raises InputError for unusable input or if ``out`` belongs to another config, and HarnessError if a measurement
    fails. ``config_folder`` is the folder of the config file, for relative paths; ``backends`` opens the backends.
    """
    progress = progress or SilentProgress()
    folder = RunFolder(out)
    load_tests = read_load_tests(config.latency.imported, config_folder)
    check_belongs(folder, config_digest(config))
    recorded = folder.read_manifest().digests if folder.manifest_path.exists() else {}
    libraries = import_libraries if backends is open_backends else None
    prepared = prepare(config, progress, config_folder, recorded, ahead=libraries)
    with locked(folder):
        refuse_edited(folder)
        earlier = _earlier_run(folder, prepared)
        with failures_recorded(folder), _scored_ahead(folder, prepared) as ahead:
            if earlier is None or earlier.state != "complete":
                measure(folder, prepared, progress, backends, replied=ahead.begin)
            _show(folder, load_tests)
            with without_collecting_the_old():
                compute(folder, config, progress, ahead=ahead)
    return folder


def _show(folder: RunFolder, load_tests: list[dict[str, Any]]) -> None:
    """Let the page show other tools' load tests; they may be added to a finished run."""
    manifest = folder.read_manifest()
    facts = {name: fact for name, fact in manifest.provenance.items() if name != "load_tests"}
    if load_tests or len(facts) < len(manifest.provenance):
        shown = {**facts, "load_tests": load_tests} if load_tests else facts
        folder.write_manifest(manifest.model_copy(update={"provenance": shown}))


def _scored_ahead(folder: RunFolder, prepared: Prepared) -> ScoredAhead:
    """Score replies ahead on the cores that the passes leave idle: all but one on CUDA, and few or none on the CPU."""
    config, cores = prepared.config, usable_cores()
    busy = 1 if prepared.device.startswith("cuda") else config.threads or cores
    return ScoredAhead(folder, lambda: metrics_of(folder, config), config.reasoning, min(cores - busy, 4))


def measure(
    folder: RunFolder,
    prepared: Prepared,
    progress: Progress,
    open_backends: Open,
    *,
    replied: Callable[[str], None] = lambda variant: None,
) -> None:
    """Run every unfinished pass. On an error, the records made so far are kept.

    ``replied`` is called with each variant whose replies are complete.
    """
    config, variants, device = prepared.config, prepared.variants, prepared.device
    folder.root.mkdir(parents=True, exist_ok=True)
    remove_outdated(folder)
    folder.summary_path.unlink(missing_ok=True)
    manifest = _first_manifest(prepared)
    earlier = _earlier_run(folder, prepared)  # if interrupted, its events still hold, e.g. that a batch was halved
    notes = Notes(folder, manifest, list(earlier.events) if earlier else [], progress)
    notes.write()
    write_rows(folder.dialogues_path, prepared.dialogues.rows)
    _prune(folder, prepared)
    backends = open_backends(
        variants, device, event=notes.event, batch_tokens=config.batch_tokens, threads=config.threads
    )
    try:
        prepared.files.refuse_changed(variants)
        progress.note("Checking the variants before the long passes.")
        checks = backends.check(allow_base_mismatch=config.allow_base_mismatch)
        sanity = tuple(SanityCheck(**asdict(check)) for check in checks)
        notes.manifest = manifest.model_copy(update={"sanity": sanity})
        notes.write()
        context = PassContext(
            folder=folder,
            config=config,
            variants=variants,
            dialogues=prepared.dialogues.rows,
            backends=backends,
            device=device,
            progress=progress,
            key=prepared.key,
            event=notes.event,
            fact=notes.facts.__setitem__,
            replied=replied,
        )
        passes = in_order(config.passes)
        for one in passes:
            names = dict.fromkeys((variant.name for variant in variants), 0)
            context.time_left.expect(one.name, one.reads(variants, config) if one.reads else names)
        if isinstance(progress, ShownProgress):
            progress.time_left = context.time_left
        for one in passes:
            one.measure(context)
            notes.write()
        if isinstance(progress, ShownProgress):
            progress.time_left = None
    finally:
        backends.close()


def _earlier_run(folder: RunFolder, prepared: Prepared) -> RunManifest | None:
    """Return the manifest in the folder if it is of a run of exactly these inputs."""
    before = folder.read_manifest() if folder.manifest_path.exists() else None
    return before if before and before.digests.get("inputs") == _inputs_digest(prepared) else None


@dataclass
class Notes:
    """Events and facts that passes record in addition to their results. Events are written at once, so none is lost."""

    folder: RunFolder
    manifest: RunManifest
    events: list[dict[str, Any]]
    progress: Progress = field(default_factory=SilentProgress)
    facts: dict[str, Any] = field(default_factory=dict)

    def event(self, kind: EventKind, detail: Mapping[str, Any]) -> None:
        """Record an event unless it is recorded already, e.g. before an interruption."""
        entry = {"kind": kind.value, **detail}
        if entry not in self.events:
            self.events.append(entry)
            self.write()
            if kind in SENTENCES:
                self.progress.note(SENTENCES[kind].format(**detail))

    def write(self, **changes: Any) -> None:
        """Write ``run.json`` with everything recorded so far."""
        recorded = {"events": tuple(self.events), "provenance": {**self.manifest.provenance, **self.facts}}
        self.folder.write_manifest(self.manifest.model_copy(update={**recorded, **changes}))


def _inputs_digest(prepared: Prepared) -> str:
    rows = prepared.dialogues.rows
    return digest_value([prepared.key(name, variant, row) for name in prepared.config.passes
                      for variant in prepared.variants for row in rows])  # fmt: skip


def _first_manifest(prepared: Prepared) -> RunManifest:
    config, resolved = prepared.config, prepared.resolved
    training: dict[str, Any] = {}
    if resolved.file is not None:
        made = resolved.file
        training = {"recipe": made.recipe, "facts": made.training, "versions": made.versions}
        if made.curves:
            training["curves"] = resolved.curves
    return RunManifest(
        state="running",
        config=config.model_dump(mode="json"),
        config_digest=config_digest(config),
        digests={
            **prepared.dialogues.digests,
            **{f"weights/{name}": digest for name, digest in prepared.weights.items()},
            "inputs": _inputs_digest(prepared),
        },
        variants=tuple(
            {**variant.model_dump(mode="json"), "dtype": stated_dtype(variant)} for variant in resolved.variants
        ),
        reference_variant=prepared.reference,
        template=prepared.dialogues.template.name,
        template_digest=prepared.dialogues.template_digest,
        template_date=prepared.dialogues.template_date,
        held_out=prepared.dialogues.counts,
        provenance={**provenance(config.seed), "device": prepared.device},
        warnings=prepared.dialogues.warnings,
        training=training,
        started=now(),
    )


def _prune(folder: RunFolder, prepared: Prepared) -> None:
    """Drop records of other inputs (e.g. of weights that have changed since)."""
    for name in prepared.config.passes:
        for variant in prepared.variants:
            keys = {prepared.key(name, variant, row) for row in find(name).rows(prepared.dialogues.rows)}
            prune_records(folder.records_path(name, variant.name), keys)
