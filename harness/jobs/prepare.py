"""Find every error in a run's input before anything is written, and digest what its results depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

from harness.backends.choose import chat_tokenizer, resolve_device, served_digests
from harness.config import RunConfig
from harness.errors import InputError, did_you_mean
from harness.files import digest_value
from harness.jobs.inputs import HeldOut, held_out
from harness.passes.keys import Key, record_key
from harness.progress import Progress
from harness.results.units import LENGTH_BUCKET
from harness.sets import about, naming, set_configs, shown_on
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
    """A set's validated input, before its variants' weights are read."""

    config: RunConfig
    resolved: ResolvedVariants
    dialogues: HeldOut
    reference: str


@dataclass(frozen=True)
class Prepared:
    """A set with validated input; ``weights`` maps each variant to the digest of its weights and adapter.

    ``whole`` is the config that its folder belongs to: of the first of several sets, the config of them all.
    """

    config: RunConfig
    whole: RunConfig
    resolved: ResolvedVariants
    dialogues: HeldOut
    reference: str
    warnings: tuple[str, ...]  # of the first of several sets, those about all of them
    weights: dict[str, str]
    files: Snapshot  # of the variants, taken before they were digested
    key: Key
    device: str

    @property
    def variants(self) -> tuple[Variant, ...]:
        return self.resolved.variants


def check(
    config: RunConfig, config_folder: Path | None = None, resolved: ResolvedVariants | None = None
) -> dict[str, Checked]:
    """Check every input without writing anything: variants and their files, each set's dialogues, template, metrics.

    ``resolved`` are the config's variants, if they are known already. The sets are in order, by name; a run without
    has one, whose name is empty. Errors say which set they are about.
    """
    from harness.metrics.loading import load_metrics

    resolved = resolved or _resolved(config, config_folder)
    reference = reference_variant(config.reference_variant, resolved.variants)
    tokenizer = cache(partial(chat_tokenizer, resolved.variants))
    found: dict[str, Checked] = {}
    for name, one in set_configs(config).items():
        with naming(name):
            if name and not one.passes:
                stated = config.sets is not None and config.sets[name].passes is not None
                why = "" if stated else ", for latency and memory are measured on the first set alone"
                raise InputError(f"no pass is left to measure it{why}. Name one in sets.{name}.passes.")
            load_metrics(one.metrics, one.metric_options)
            dialogues = held_out(one, resolved, tokenizer, config_folder)
            refuse_unknown_slices(one, dialogues.rows)
        found[name] = Checked(one, resolved, dialogues, reference)
    return found


def prepare(
    config: RunConfig,
    progress: Progress,
    config_folder: Path | None = None,
    recorded: Mapping[str, str] | None = None,
    *,
    ahead: Callable[[Sequence[Variant]], None] | None = None,
) -> dict[str, Prepared]:
    """Check every input of every set, and digest what the results depend on; nothing is written.

    ``recorded`` are the digests of the run to be continued, if there is one. ``ahead`` is called while weights are
    read, once the input is known to be fine.
    """
    resolved = _resolved(config, config_folder)
    files = Snapshot.of(resolved.variants)
    with weights_read_meanwhile(resolved.variants):
        checked = check(config, config_folder, resolved)
        for name, one in checked.items():
            _tell(one.dialogues, shown_on(progress, name))
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
    prepared: dict[str, Prepared] = {}
    for name, one in checked.items():
        dialogues = one.dialogues
        first = not prepared
        key = record_key(one.config, resolved.variants, measured, dialogues.template_digest, machine, device)
        warnings = [about(which, warning) for which, each in checked.items() for warning in each.dialogues.warnings]
        prepared[name] = Prepared(
            config=one.config,
            whole=config if first else one.config,
            resolved=resolved,
            dialogues=dialogues,
            reference=one.reference,
            warnings=tuple(warnings) if first else dialogues.warnings,
            weights=weights,
            files=files,
            key=key,
            device=device,
        )
    return prepared


def _tell(dialogues: HeldOut, progress: Progress) -> None:
    invalid = sum(dialogues.counts["invalid"].values())
    skipped = f", {invalid} unusable ones skipped" if invalid else ""
    progress.note(f"{dialogues.counts['measured']} held-out dialogues of {dialogues.counts['loaded']}{skipped}.")
    for note in (*dialogues.notes, *(f"Warning: {warning}" for warning in dialogues.warnings)):
        progress.note(note)


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
