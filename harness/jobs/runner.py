"""One run from config to a folder ready for the report: prepare, measure, compute.

``prepare`` finds all errors in the input before anything is written; ``measure`` appends records and can be interrupted
and resumed at any time; ``compute`` derives everything else from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.base import Backends
from harness.backends.choose import Open, import_libraries, open_backends
from harness.config import RunConfig
from harness.files import digest_value, write_rows
from harness.jobs.compute import compute, metrics_of
from harness.jobs.guard import (
    check_belongs,
    failures_recorded,
    forget_parts,
    locked,
    refuse_edited,
    refuse_running,
    remove_outdated,
)
from harness.jobs.load_tests import read_load_tests
from harness.jobs.prepare import Prepared, prepare
from harness.machine import usable_cores, without_collecting_the_old
from harness.passes.base import Pass, PassContext
from harness.passes.keys import config_digest
from harness.passes.registry import find, in_order
from harness.progress import SENTENCES, EventKind, Progress, ShownProgress, SilentProgress
from harness.results.scored_ahead import ScoredAhead
from harness.store.folder import RunFolder, prune_records
from harness.store.provenance import now, provenance
from harness.store.schema import RunManifest, SanityCheck
from harness.store.shards import ShardFolder, events_of, join_shards, parts_of
from harness.time_left import TimeLeft
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
    prepared = prepare_for(folder, config, progress, config_folder, backends)
    with locked(folder):
        refuse_running(folder)
        refuse_edited(folder)
        with failures_recorded(folder), scored_ahead(folder, prepared) as ahead:
            if not is_complete(folder, prepared):
                begin(folder, prepared)
                forget_parts(folder)
                with measuring(folder, prepared, progress, backends) as work:
                    work.do(in_order(config.passes), replied=ahead.begin)
            show_load_tests(folder, load_tests)
            with without_collecting_the_old():
                compute(folder, config, progress, ahead=ahead)
    return folder


def prepare_for(
    folder: RunFolder, config: RunConfig, progress: Progress, config_folder: Path | None, backends: Open
) -> Prepared:
    """Check the input of a run into this folder, which may hold a part of it already."""
    check_belongs(folder, config)
    recorded = folder.read_manifest().digests if folder.manifest_path.exists() else {}
    libraries = import_libraries if backends is open_backends else None
    return prepare(config, progress, config_folder, recorded, ahead=libraries)


def show_load_tests(folder: RunFolder, load_tests: list[dict[str, Any]]) -> None:
    """Let the page show other tools' load tests; they may be added to a finished run."""
    manifest = folder.read_manifest()
    facts = {name: fact for name, fact in manifest.provenance.items() if name != "load_tests"}
    if load_tests or len(facts) < len(manifest.provenance):
        shown = {**facts, "load_tests": load_tests} if load_tests else facts
        folder.write_manifest(manifest.model_copy(update={"provenance": shown}))


def scored_ahead(folder: RunFolder, prepared: Prepared) -> ScoredAhead:
    """Score replies ahead on the cores that the passes leave idle: all but one on CUDA, and few or none on the CPU."""
    config, cores = prepared.config, usable_cores()
    busy = 1 if prepared.device.startswith("cuda") else config.threads or cores
    return ScoredAhead(folder, lambda: metrics_of(folder, config), config.reasoning, min(cores - busy, 4))


def begin(folder: RunFolder, prepared: Prepared, *, keep: Callable[[ShardFolder], bool] = lambda part: False) -> None:
    """Write what a run begins with; keep the records, and join what several processes left of theirs.

    Of what these noted about their parts only the events stay, and the parts to ``keep``.
    """
    folder.root.mkdir(parents=True, exist_ok=True)
    remove_outdated(folder)
    folder.summary_path.unlink(missing_ok=True)
    # If interrupted, earlier events still hold, e.g. that a batch was halved.
    parts = parts_of(folder)
    earlier = [one for one in (folder, *parts) if _earlier_run(one, prepared) is not None]
    folder.write_manifest(first_manifest(prepared).model_copy(update={"events": events_of(*earlier)}))
    write_rows(folder.dialogues_path, prepared.dialogues.rows)
    join_shards(folder, [variant.name for variant in prepared.variants])
    for part in parts:
        if not keep(part):
            part.manifest_path.unlink()
    _prune(folder, prepared)


@contextmanager
def measuring(folder: RunFolder, prepared: Prepared, progress: Progress, open_backends: Open) -> Iterator[Measuring]:
    """Open the backends and check the variants. On an error in the block, the records made so far are kept."""
    config = prepared.config
    notes = Notes.continued(folder, progress)
    work = Measuring(prepared, notes)
    work.backends = open_backends(
        prepared.variants, prepared.device, event=work.event, batch_tokens=config.batch_tokens, threads=config.threads
    )
    try:
        prepared.files.refuse_changed(prepared.variants)
        progress.note("Checking the variants before the long passes.")
        checks = work.backends.check(allow_base_mismatch=config.allow_base_mismatch)
        notes.manifest = notes.manifest.model_copy(update={"sanity": tuple(SanityCheck(**asdict(c)) for c in checks)})
        notes.write()
        yield work
    finally:
        work.backends.close()


class Measuring:
    """A run with open backends. What happens on the way goes to ``notes``, and records to their folder."""

    backends: Backends

    def __init__(self, prepared: Prepared, notes: Notes) -> None:
        self._prepared = prepared
        self.notes = notes

    def event(self, kind: EventKind, detail: Mapping[str, Any]) -> None:
        self.notes.event(kind, detail)

    def do(
        self, passes: Sequence[Pass], *, replied: Callable[[str], None] = lambda variant: None, processes: int = 1
    ) -> None:
        """Run what is unfinished of these passes.

        ``replied`` is called with each variant whose replies are complete; ``processes`` share the dialogues out.
        """
        prepared, notes, progress = self._prepared, self.notes, self.notes.progress
        config, variants = prepared.config, prepared.variants
        context = PassContext(
            folder=notes.folder,
            config=config,
            variants=variants,
            dialogues=prepared.dialogues.rows,
            backends=self.backends,
            device=prepared.device,
            progress=progress,
            key=prepared.key,
            event=self.event,
            fact=notes.facts.__setitem__,
            replied=replied,
            time_left=TimeLeft(processes=processes),
            processes=processes,
        )
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


def is_complete(folder: RunFolder, prepared: Prepared) -> bool:
    """Return whether the folder holds a finished run of exactly these inputs."""
    ended = folder.manifest_path.exists() and folder.read_manifest().state == "complete"
    return ended and _earlier_run(folder, prepared) is not None


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

    @classmethod
    def continued(cls, folder: RunFolder, progress: Progress) -> Notes:
        """Return notes that continue those in the folder."""
        manifest = folder.read_manifest()
        return cls(folder, manifest, list(manifest.events), progress)

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


def first_manifest(prepared: Prepared) -> RunManifest:
    """Return what a run's manifest says before anything was measured."""
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
