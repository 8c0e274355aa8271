"""Find every error in a run's input before anything is written, and digest what its results depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.backends.choose import chat_tokenizer, resolve_device, served_digests
from harness.config import RunConfig
from harness.errors import InputError, did_you_mean
from harness.files import digest_value
from harness.jobs.inputs import HeldOut, held_out
from harness.passes.keys import Key, record_key
from harness.progress import Progress
from harness.results.units import LENGTH_BUCKET
from harness.store.provenance import hardware
from harness.store.schema import DialogueRow
from harness.variants.folders import (
    local_variants,
    settings_digests,
    weights_digests,
    weights_read_meanwhile,
)
from harness.variants.model import Variant
from harness.variants.relations import reference_variant, refuse_unknown_pairs
from harness.variants.resolve import ResolvedVariants, resolve_variants
from harness.variants.snapshot import Snapshot


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
    ahead: Callable[[Sequence[Variant]], None] | None = None,
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
        served = served_digests(resolved.variants)
        device = resolve_device(config.device, config.placement)
        # Replies are the same wherever the layers are; timings and memory are not.
        machine = digest_value(hardware() if config.placement == "single" else [hardware(), device])
        if ahead is not None:
            ahead(resolved.variants)
    local = weights_digests(resolved.variants, recorded)
    weights = {variant.name: {**local, **served}[variant.name] for variant in resolved.variants}
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
