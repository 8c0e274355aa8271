"""One run from config to a folder ready for the report: prepare, measure, compute.

``prepare`` finds all errors in the input before anything is written; ``measure`` appends records and can be interrupted
and resumed at any time; ``compute`` derives everything else from the records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.backends.choose import Open, chat_tokenizer, import_libraries, open_backends, resolve_device
from harness.config import RunConfig, StatsConfig
from harness.dialogues.reply_text import REASONING, Reasoning
from harness.errors import InputError, did_you_mean, text_of
from harness.files import digest_bytes, digest_value, model_bytes, remove_leftovers, write_json, write_model, write_rows
from harness.files import locked as lock_held
from harness.jobs.inputs import HeldOut, held_out
from harness.jobs.reply_shapes import ReplyColumns
from harness.machine import without_collecting_the_old
from harness.metrics.registry import MetricOptions
from harness.passes.base import PassContext
from harness.passes.keys import Key, config_digest, record_key
from harness.passes.registry import find, in_order
from harness.progress import SENTENCES, EventKind, Progress, ShownProgress, SilentProgress
from harness.results.units import LENGTH_BUCKET
from harness.store.folder import RunFolder, prune_records
from harness.store.provenance import hardware, now, provenance
from harness.store.schema import DialogueRow, RunManifest, SanityCheck
from harness.variants.folders import (
    local_variants,
    settings_digests,
    stated_dtype,
    weights_digests,
    weights_read_meanwhile,
)
from harness.variants.model import Variant
from harness.variants.relations import reference_variant, refuse_unknown_pairs
from harness.variants.resolve import ResolvedVariants, resolve_variants
from harness.variants.snapshot import Snapshot
from harness.yamlfile import Strict


@dataclass(frozen=True)
class Checked:
    """A run's validated input, before its weights are read."""

    resolved: ResolvedVariants
    dialogues: HeldOut
    reference: str


@dataclass(frozen=True)
class Prepared:
    """A run with validated input; ``weights`` maps each variant to the digest of its weights and adapter."""

    config: RunConfig
    resolved: ResolvedVariants
    dialogues: HeldOut
    reference: str
    weights: dict[str, str]
    files: Snapshot  # of the variants, taken before they were digested
    key: Key
    device: str

    @property
    def variants(self) -> tuple[Variant, ...]:
        return self.resolved.variants


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
    check_belongs(folder, config_digest(config))
    recorded = folder.read_manifest().digests if folder.manifest_path.exists() else {}
    ahead = import_libraries if backends is open_backends else None
    prepared = prepare(config, progress, config_folder, recorded, ahead=ahead)
    with locked(folder):
        refuse_edited(folder)
        earlier = _earlier_run(folder, prepared)
        with failures_recorded(folder):
            if earlier is None or earlier.state != "complete":
                measure(folder, prepared, progress, backends)
            with without_collecting_the_old():
                compute(folder, config, progress)
    return folder


def check(config: RunConfig, config_folder: Path | None = None, resolved: ResolvedVariants | None = None) -> Checked:
    """Check every input without writing anything: variants and their files, dialogues, template, metrics.

    ``resolved`` are the config's variants, if they are known already.
    """
    from harness.metrics.loading import load_metrics

    resolved = resolved or _resolved(config, config_folder)
    reference = reference_variant(config.reference_variant, resolved.variants)
    load_metrics(config.metrics, config.metric_options)

    dialogues = held_out(config, resolved, lambda: chat_tokenizer(resolved.variants), config_folder)
    refuse_unknown_slices(config, dialogues.rows)
    return Checked(resolved, dialogues, reference)


def prepare(
    config: RunConfig,
    progress: Progress,
    config_folder: Path | None = None,
    recorded: Mapping[str, str] | None = None,
    *,
    ahead: Callable[[], None] | None = None,
) -> Prepared:
    """Check every input, and digest what the results depend on; nothing is written.

    ``recorded`` are the digests of the run to be continued, if there is one. ``ahead`` is called while weights are
    read, once the input is known to be fine.
    """
    resolved = _resolved(config, config_folder)
    files = Snapshot.of(resolved.variants)
    with weights_read_meanwhile(resolved.variants):
        checked = check(config, config_folder, resolved)
        dialogues = checked.dialogues
        invalid = sum(dialogues.counts["invalid"].values())
        skipped = f", {invalid} unusable ones skipped" if invalid else ""
        progress.note(f"{dialogues.counts['measured']} held-out dialogues of {dialogues.counts['loaded']}{skipped}.")
        for note in (*dialogues.notes, *(f"Warning: {warning}" for warning in dialogues.warnings)):
            progress.note(note)
        machine, device = digest_value(hardware()), resolve_device(config.device)
        if ahead is not None:
            ahead()
    weights = weights_digests(resolved.variants, recorded)
    other_files = settings_digests(resolved.variants)
    measured = {name: digest_value([weights[name], other_files[name]]) for name in weights}
    key = record_key(config, resolved.variants, measured, dialogues.template_digest, machine, device)
    return Prepared(config, resolved, dialogues, checked.reference, weights, files, key, device)


def _resolved(config: RunConfig, config_folder: Path | None) -> ResolvedVariants:
    named = resolve_variants(config.variants, config_folder)
    refuse_unknown_pairs(config.fidelity or (), [variant.name for variant in named.variants])
    return local_variants(named)


def refuse_unknown_slices(config: RunConfig, rows: Sequence[DialogueRow]) -> None:
    """Raise InputError for a slice by a column that no dialogue has; it would be silently empty."""
    columns = {LENGTH_BUCKET, *(name for row in rows for name in row.columns)}
    for name in config.stats.slices:
        if name not in columns:
            raise InputError(f"stats.slices: no held-out dialogue has a column '{name}'.{did_you_mean(name, columns)}")


def measure(folder: RunFolder, prepared: Prepared, progress: Progress, open_backends: Open) -> None:
    """Run every unfinished pass. On an error, the records made so far are kept."""
    config, variants, device = prepared.config, prepared.variants, prepared.device
    folder.root.mkdir(parents=True, exist_ok=True)
    _remove_outdated(folder)
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


class ScoreConfig(Strict):
    """The part of a run's config that needs no model, and that ``harness score --set`` may change."""

    metrics: tuple[str, ...] | None = None
    metric_options: MetricOptions = MetricOptions()
    reasoning: Reasoning = REASONING
    stats: StatsConfig = StatsConfig()
    seed: int = Field(42, ge=0)
    columns: ReplyColumns | None = Field(None, description="keys of the reply files; absent: recognised")


def compute(folder: RunFolder, config: RunConfig | ScoreConfig, progress: Progress) -> None:
    """Score the replies, compute the summary and seal the folder, using only its files and no model."""
    from harness.metrics.loading import all_specs, load_metrics
    from harness.metrics.text.words import for_texts
    from harness.results.memory_fits import memory_table
    from harness.results.replies_scored import UNFINISHED, score_replies, unfinished_warnings
    from harness.results.several_references import how_of, sign
    from harness.results.summarize import summarize
    from harness.store.seals import is_measured, numbers_digest, seal

    manifest = folder.read_manifest()
    names = [str(variant["name"]) for variant in manifest.variants]
    progress.note("Scoring the replies and computing the statistics.")
    options = for_texts(config.metric_options, (row.reference or "" for row in folder.dialogues()))
    metrics = load_metrics(config.metrics, options)
    replies = score_replies(folder, metrics, progress, how=how_of(manifest), reasoning=config.reasoning)
    unfinished = unfinished_warnings(replies)
    for warning in unfinished:
        progress.note(f"Warning: {warning}")
    write_json(folder.memory_path, memory_table(folder, names))
    specs = sign(all_specs(options), folder.dialogues(), how_of(manifest))
    summary = summarize(
        folder, registry=specs, resamples=config.stats.resamples, seed=config.seed, slices=config.stats.slices
    )
    if digest_bytes(model_bytes(summary)) != numbers_digest(folder):
        _remove_outdated(folder)
        write_model(folder.summary_path, summary)
    inputs = {name: digest for name, digest in manifest.digests.items() if not is_measured(name)}
    derived = {
        "metrics": config.metrics,
        "metric_options": config.metric_options.model_dump(mode="json"),
        "stats": config.stats.model_dump(mode="json"),
        "reasoning": config.reasoning,
    }
    folder.write_manifest(
        manifest.model_copy(
            update={
                "state": "complete",
                "error": None,
                "finished": now(),
                "warnings": (*(one for one in manifest.warnings if UNFINISHED not in one), *unfinished),
                "config": {**manifest.config, **derived},
                "digests": {**inputs, **seal(folder)},
            }
        )
    )


def _remove_outdated(folder: RunFolder) -> None:
    """Leave nothing in the folder that shows the numbers it has, before they change: a kill may come at any time."""
    from harness.gating.outputs import mark_outdated

    mark_outdated(folder)
    for name in ("report.html", "summary.md"):
        (folder.root / name).unlink(missing_ok=True)


def refuse_edited(folder: RunFolder) -> None:
    """Raise InputError if what a complete run measured was changed since: computing from it would seal the change."""
    from harness.store.seals import check_sources

    manifest = folder.read_manifest() if folder.manifest_path.exists() else None
    problems = check_sources(folder, manifest) if manifest and manifest.state == "complete" else []
    if problems:
        raise InputError(f"{folder.root}: {problems[0]} Restore it, or measure again into another folder.")


def check_belongs(folder: RunFolder, digest: str) -> None:
    """Raise InputError if the folder contains anything but a run whose config has this digest."""
    root = folder.root
    if root.is_file():
        raise InputError(f"{root} is a file, but --out must be a folder.")
    if folder.manifest_path.exists():
        if folder.read_manifest().config_digest != digest:
            raise InputError(
                f"{root} belongs to a run with another config. Choose another --out, or delete the folder."
            )
    # A run killed before its first run.json was in place may have left its temporary file.
    elif root.is_dir() and not all(
        (p.name == ".lock" or p.name.startswith(".run.json.")) and not p.is_symlink() for p in root.iterdir()
    ):
        raise InputError(f"{root} is not empty and not a run folder. Choose another --out.")


@contextmanager
def failures_recorded(folder: RunFolder) -> Iterator[None]:
    """Record whatever ends the block early in ``run.json``, state ``failed``; the same command then continues.

    Ctrl-C is no failure: the run stays ``running``, as after a kill. Nothing is recorded before ``run.json`` exists.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        with suppress(Exception):  # a full disk must not hide what went wrong first
            folder.write_manifest(
                folder.read_manifest().model_copy(update={"state": "failed", "error": text_of(error)})
            )
        raise


@contextmanager
def locked(folder: RunFolder) -> Iterator[None]:
    """Lock the run folder and remove what killed runs left half written; raise InputError if someone else holds it."""
    busy = f"{folder.root} is in use by another process. Wait for it to finish, or choose another --out."
    with lock_held(folder.root / ".lock", busy):
        remove_leftovers(folder.root, folder.root / "replies", *(folder.root / "records").glob("*/"))
        yield


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
