"""One run from config to a folder ready for the report: prepare, measure, compute.

``prepare`` finds all errors in the input before anything is written; ``measure`` appends records and can be interrupted
and resumed at any time; ``compute`` derives everything else from the records. Of a run over several sets, each step is
taken for all of them before the next one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

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
from harness.jobs.measuring import SetRun, SetRuns, measuring
from harness.jobs.prepare import Prepared, prepare
from harness.machine import usable_cores, without_collecting_the_old
from harness.passes.base import Pass
from harness.passes.keys import config_digest
from harness.passes.registry import find, in_order
from harness.progress import Progress, SilentProgress
from harness.results.scored_ahead import ScoredAhead
from harness.sets import recorded_config, shown_on
from harness.store.folder import RunFolder, prune_records
from harness.store.provenance import now, provenance
from harness.store.schema import RunManifest, pass_names
from harness.store.shards import ShardFolder, events_of, join_shards, parts_of
from harness.variants.folders import stated_dtype


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
    load_tests = read_load_tests(config.latency.imported, config_folder)
    sets = prepare_for(RunFolder(out), config, progress, config_folder, backends)
    folder = sets[0].folder
    with locked(folder):
        refuse_running(folder)
        refuse_edited(folder, progress)
        with failures_recorded(folder), scored_ahead(sets) as ahead:
            complete = are_complete(sets)
            with begun(sets, afresh=not complete):
                if not complete:
                    for one in sets:
                        forget_parts(one.folder)
                    with measuring(sets, progress, backends) as work:
                        work.do(passes_of(sets), replied=ahead.begin)
                show_load_tests(folder, load_tests)
                compute_all(sets, progress, ahead)
    return folder


def prepare_for(
    folder: RunFolder, config: RunConfig, progress: Progress, config_folder: Path | None, backends: Open
) -> SetRuns:
    """Check the input of a run into this folder, which may hold a part of it already."""
    check_belongs(folder, config)
    recorded = folder.read_manifest().digests if folder.manifest_path.exists() else {}
    libraries = import_libraries if backends is open_backends else None
    found = prepare(config, progress, config_folder, recorded, ahead=libraries)
    first = next(iter(found))
    sets = tuple(SetRun(name, folder if name == first else folder.set_folder(name), one) for name, one in found.items())
    for one in sets[1:]:
        check_belongs(one.folder, one.prepared.whole)
    return sets


def passes_of(sets: SetRuns) -> tuple[Pass, ...]:
    """Return the passes that any of the sets asks for, in the order in which they run."""
    asked = {name for one in sets for name in one.prepared.config.passes}
    return in_order(name for name in pass_names() if name in asked)


def compute_all(sets: SetRuns, progress: Progress, ahead: AllScoredAhead) -> None:
    """Compute the numbers of every set, the first set's last: it gets those of the others, and seals them."""
    first, *further = sets
    if first.name:  # the metrics of a set may have changed since it was measured
        manifest = first.folder.read_manifest()
        measured = {**manifest.config, "sets": recorded_config(first.prepared.whole)["sets"]}
        first.folder.write_manifest(manifest.model_copy(update={"config": measured}))
    with without_collecting_the_old():
        for one in (*further, first):
            config = one.prepared.config
            compute(one.folder, config, shown_on(progress, one.name), ahead=ahead.of(one.folder))


def show_load_tests(folder: RunFolder, load_tests: list[dict[str, Any]]) -> None:
    """Let the page show other tools' load tests; they may be added to a finished run."""
    manifest = folder.read_manifest()
    facts = {name: fact for name, fact in manifest.provenance.items() if name != "load_tests"}
    if load_tests or len(facts) < len(manifest.provenance):
        shown = {**facts, "load_tests": load_tests} if load_tests else facts
        folder.write_manifest(manifest.model_copy(update={"provenance": shown}))


class AllScoredAhead:
    """Scores replies ahead, for each set apart."""

    def __init__(self, by_folder: Mapping[Path, ScoredAhead]) -> None:
        self._by_folder = by_folder

    def begin(self, folder: RunFolder, variant: str) -> None:
        """Score a variant whose replies to a set are complete, soon."""
        self.of(folder).begin(variant)

    def of(self, folder: RunFolder) -> ScoredAhead:
        return self._by_folder[folder.root]


@contextmanager
def scored_ahead(sets: SetRuns) -> Iterator[AllScoredAhead]:
    """Score replies ahead on the cores that the passes leave idle: all but one on CUDA, and few or none on the CPU."""
    cores = usable_cores()
    with ExitStack() as opened:
        made = {}
        for one in sets:
            config, folder = one.prepared.config, one.folder
            busy = 1 if one.prepared.device.startswith("cuda") else config.threads or cores
            count = min((cores - busy) // len(sets), 4)
            ahead = ScoredAhead(folder, partial(metrics_of, folder, config), config.reasoning, count)
            made[folder.root] = opened.enter_context(ahead)
        yield AllScoredAhead(made)


@contextmanager
def begun(sets: SetRuns, *, afresh: bool, keep: Callable[[ShardFolder], bool] = lambda part: False) -> Iterator[None]:
    """Lock the further sets' folders until the block ends; ``afresh``: write what an incomplete run begins with.

    Records are kept, and what several processes left of theirs is joined. Of what these noted about their parts only
    the events stay, and the parts to ``keep``. The first set's folder is locked already. It says that the run is not
    complete before anything changes in another's.
    """
    with ExitStack() as locks:
        for one in sets:
            if one is not sets[0]:
                locks.enter_context(locked(one.folder))
                refuse_edited(one.folder)
            if afresh:
                _begin(one.folder, one.prepared, keep)
        yield


def _begin(folder: RunFolder, prepared: Prepared, keep: Callable[[ShardFolder], bool]) -> None:
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


def are_complete(sets: SetRuns) -> bool:
    """Return whether the folders hold a finished run of exactly these inputs."""
    return all(_is_complete(one) for one in sets)


def _is_complete(one: SetRun) -> bool:
    ended = one.folder.manifest_path.exists() and one.folder.read_manifest().state == "complete"
    return ended and _earlier_run(one.folder, one.prepared) is not None


def _earlier_run(folder: RunFolder, prepared: Prepared) -> RunManifest | None:
    """Return the manifest in the folder if it is of a run of exactly these inputs."""
    before = folder.read_manifest() if folder.manifest_path.exists() else None
    return before if before and before.digests.get("inputs") == _inputs_digest(prepared) else None


def _inputs_digest(prepared: Prepared) -> str:
    rows = prepared.dialogues.rows
    return digest_value([prepared.key(name, variant, row) for name in prepared.config.passes
                      for variant in prepared.variants for row in rows])  # fmt: skip


def first_manifest(prepared: Prepared) -> RunManifest:
    """Return what a run's manifest says before anything was measured."""
    config, whole, resolved = prepared.config, prepared.whole, prepared.resolved
    training: dict[str, Any] = {}
    if resolved.file is not None:
        made = resolved.file
        training = {"recipe": made.recipe, "facts": made.training, "versions": made.versions}
        if made.curves:
            training["curves"] = resolved.curves
    return RunManifest(
        state="running",
        config=recorded_config(whole),
        config_digest=config_digest(whole),
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
        warnings=prepared.warnings,
        training=training,
        started=now(),
    )


def _prune(folder: RunFolder, prepared: Prepared) -> None:
    """Drop records of other inputs (e.g. of weights that have changed since)."""
    for name in prepared.config.passes:
        for variant in prepared.variants:
            keys = {prepared.key(name, variant, row) for row in find(name).rows(prepared.dialogues.rows)}
            prune_records(folder.records_path(name, variant.name), keys)
