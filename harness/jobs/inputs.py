"""Prepare what a run needs before any model is loaded: the held-out dialogues, rendered once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from harness.config import RunConfig
from harness.dialogues.chat import REFUSED, RefusedDialogueError, messages_of
from harness.dialogues.leakage import FILE_NAME, combine, find_leaks, load_fingerprints
from harness.dialogues.load import load_source
from harness.dialogues.model import ColumnMap, Dialogue, DialogueConfig
from harness.dialogues.prompts import Template, load_template
from harness.dialogues.split import sample, select
from harness.errors import InputError
from harness.files import read_json
from harness.passes.registry import find as find_pass
from harness.store.schema import ChatText, DialogueRow
from harness.variants.artifacts import ADAPTER_FACTS
from harness.variants.model import SplitFacts, Variant
from harness.variants.resolve import ResolvedVariants, find


@dataclass(frozen=True)
class HeldOut:
    """The dialogues given to every variant, and how they were selected.

    ``counts`` has how many were loaded, held out, dropped as leaks (exact, near) or as invalid, and limited.
    """

    rows: tuple[DialogueRow, ...]
    template: Template
    template_digest: str
    template_date: str | None  # the date that a chat template is given, if it asks for one
    digests: dict[str, str]
    counts: dict[str, Any]
    warnings: tuple[str, ...] = field(default=())
    notes: tuple[str, ...] = field(default=())  # how the data were read


def held_out(
    config: RunConfig,
    resolved: ResolvedVariants,
    tokenizer: Callable[[], Any],
    config_folder: Path | None = None,
) -> HeldOut:
    """Load, split, check for leakage and render; ``tokenizer`` is called only if the template needs one.

    Raises InputError if nothing is left to measure, or if leaks were found and the config says ``leakage: error``.
    """
    chosen = dialogue_config(config, resolved)
    template = load_template(template_name(config.prompt, config_folder), config.chat_template)
    loaded = load_source(
        chosen,
        str(find(chosen.source, config_folder)),
        need_reference=any(find_pass(name).needs_references for name in config.passes),
    )
    dialogues = loaded.dialogues if chosen.split == "all" else select(loaded.dialogues, chosen.split, chosen.salt)
    counts: dict[str, Any] = {
        "loaded": len(loaded.dialogues),
        "invalid": dict(loaded.invalid),
        "layout": loaded.layout,
        "split": chosen.split,
        "held_out": len(dialogues),
    }
    helper = tokenizer() if template.is_chat else None
    template_digest = template.digest_with(helper)
    warnings = _template_warnings(template.name, template_digest, resolved)
    dialogues, leak_counts, leak_warnings = _without_leaks(dialogues, chosen, resolved, config_folder)
    counts["leakage"] = leak_counts
    warnings.extend(leak_warnings)
    if config.limit is not None and len(dialogues) > config.limit:
        counts["limited_to"] = config.limit
        dialogues = sample(dialogues, config.limit, config.seed)
    served = any(variant.is_served for variant in resolved.variants)
    rows, refused = render_rows(dialogues, template, helper, on_invalid=chosen.on_invalid, messages=served)
    if refused:
        counts["invalid"][REFUSED] = refused
    if dialogues and not rows:
        raise InputError(f"{chosen.source}: the prompt '{template.name}' refuses all {refused} dialogues. Use another.")
    if not dialogues:
        raise InputError(
            f"{chosen.source}: no dialogues are left to measure (loaded {counts['loaded']}, split '{chosen.split}' has "
            f"{counts['held_out']}, dropped as leaks: {leak_counts['dropped']}). Use another split or more data."
        )
    counts["measured"] = len(rows)
    return HeldOut(
        rows=rows,
        template=template,
        template_digest=template_digest,
        template_date=template.date_with(helper),
        digests={"source": loaded.digest, "template": template_digest},
        counts=counts,
        warnings=tuple(warnings),
        notes=(*loaded.notes, *_several_references(dialogues, chosen)),
    )


def _several_references(dialogues: tuple[Dialogue, ...], chosen: DialogueConfig) -> list[str]:
    count = sum(bool(dialogue.further_references) for dialogue in dialogues)
    how = "the best of them counts" if chosen.references == "best" else "their mean counts"
    return [f"{count} dialogues have several references: {how} (dialogues.references)."] if count else []


def template_name(prompt: str, config_folder: Path | None) -> str:
    """Return a template's name, or its path relative to the working directory or the config file."""
    return str(find(prompt, config_folder)) if Path(prompt).suffix else prompt


def dialogue_config(config: RunConfig, resolved: ResolvedVariants) -> DialogueConfig:
    """Return the config's dialogues, or else the held-out part of the variants' training data."""
    if config.dialogues is not None:
        return config.dialogues
    split = resolved.file.split if resolved.file else None
    if split is None:
        raise InputError("The variants do not record their training data, which would be split. Add dialogues.source.")
    source = split.source
    if resolved.folder is not None and (resolved.folder / source).exists():
        source = str(resolved.folder / source)
    return DialogueConfig(
        source=source,
        split="test",
        hub_split=split.hub_split,
        hub_config=split.hub_config,
        encoding=split.encoding,
        salt=split.salt,
        columns=_recorded_columns(split),
        on_invalid=split.on_invalid,
    )


def _recorded_columns(split: SplitFacts) -> ColumnMap:
    """Return the column map used in training. Roles that were not mapped stay unset: they follow the data's layout."""
    if split.mapped is not None:
        return ColumnMap(**split.mapped, **dict.fromkeys(split.switched_off))
    defaults = ColumnMap().model_dump()
    named: dict[str, str | None] = {k: column for k, column in split.columns.items() if column != defaults.get(k)}
    if "prompt" in split.columns and "input" not in split.columns:
        named["input"] = None  # the record left it out if it was switched off
    return ColumnMap(**named)


def render_rows(
    dialogues: Sequence[Dialogue],
    template: Template,
    tokenizer: Any = None,
    *,
    on_invalid: Literal["error", "skip"] = "error",
    messages: bool = False,
) -> tuple[tuple[DialogueRow, ...], int]:
    """Return the rows of ``dialogues.jsonl``, and how many dialogues the template refused and were skipped.

    With ``messages``, rows of a chat template keep their conversation too.

    Raises RefusedDialogueError at the first one, unless they are skipped.
    """
    rows = []
    for dialogue in dialogues:
        try:
            rows.append(_row(dialogue, template, tokenizer, messages))
        except RefusedDialogueError:
            if on_invalid == "error":
                raise
    return tuple(rows), len(dialogues) - len(rows)


def _row(dialogue: Dialogue, template: Template, tokenizer: Any, messages: bool) -> DialogueRow:
    """Return a dialogue's row. The reference is stripped, as the reply was in training."""
    joined = template.render_joined(dialogue, tokenizer)
    said = tuple(messages_of(dialogue)) if messages else ()
    context, reference = (joined.before, joined.reply) if joined else (None, None)
    chat = ChatText(context=context, reference=reference, messages=said)
    return DialogueRow(
        id=dialogue.id,
        prompt=template.render(dialogue, tokenizer),
        reference=None if dialogue.reference is None else dialogue.reference.strip(),
        columns=dict(dialogue.columns),
        conversation=dialogue.conversation,
        chat=chat if template.is_chat else None,
        further_references=dialogue.further_references,
    )


def _template_warnings(name: str, digest: str, resolved: ResolvedVariants) -> list[str]:
    templates = [_trained_with(variant) for variant in resolved.variants]
    trained = {(its_name, its_digest) for its_name, its_digest in templates if its_digest and its_digest != digest}
    file = resolved.file
    if not trained and file and file.template_digest and file.template_digest != digest:
        trained = {(file.template, file.template_digest)}
    return [
        f"The adapter was trained with the prompt '{other}' but is measured with '{name}', so "
        "its replies say little about what it learned. Set 'prompt' and 'chat_template' to those it was trained with."
        for other, _ in sorted(trained, key=str)
    ]


def _trained_with(variant: Variant) -> tuple[str | None, str | None]:
    """Return name and digest of the template a variant was trained with, or None and None if unknown.

    For an adapter listed in the config itself, they are only in the record that ``finetune`` saved with it.
    """
    facts = Path(variant.adapter or "") / ADAPTER_FACTS
    if variant.template_digest or variant.adapter is None or not facts.is_file():
        return variant.template, variant.template_digest
    recorded = read_json(facts)
    return recorded.get("template"), recorded.get("template_digest")


def _trained_on(resolved: ResolvedVariants) -> list[Path]:
    """Return the fingerprint files of the variants' training data: those named, and those saved with adapters."""
    saved = (Path(variant.adapter) / FILE_NAME for variant in resolved.variants if variant.adapter)
    named = () if resolved.fingerprints is None else (resolved.fingerprints,)
    files = [*named, *(file for file in saved if file.is_file())]
    return list({file.resolve(): file for file in files}.values())


def _without_fingerprints(chosen: DialogueConfig, resolved: ResolvedVariants) -> list[str]:
    """Return the adapters with unknown training data; fingerprints named in the config cover all adapters."""
    if chosen.fingerprints or (resolved.file and resolved.file.fingerprints):
        return []
    adapters = ((variant.name, variant.adapter) for variant in resolved.variants if variant.adapter)
    return [name for name, adapter in adapters if not (Path(adapter) / FILE_NAME).is_file()]


def _without_leaks(
    dialogues: tuple[Dialogue, ...], chosen: DialogueConfig, resolved: ResolvedVariants, config_folder: Path | None
) -> tuple[tuple[Dialogue, ...], dict[str, Any], list[str]]:
    files = [*_trained_on(resolved), *(find(name, config_folder) for name in chosen.fingerprints)]
    if not files:
        counts: dict[str, Any] = {"checked": False, "exact": 0, "near": 0, "dropped": 0}
        return dialogues, counts, ["The variants' training data is unknown, so leakage was not checked."]
    leaks = find_leaks(dialogues, combine([load_fingerprints(file) for file in files]))
    counts = {"checked": True, "exact": len(leaks.exact), "near": len(leaks.near or {}), "dropped": 0}
    warnings = []
    unchecked = _without_fingerprints(chosen, resolved)
    if unchecked:
        counts["not_checked"] = unchecked
        names = ", ".join(f"'{name}'" for name in unchecked)
        warnings.append(f"Leakage was not checked for {names}, because the training dialogues are unknown.")
    if not leaks.ids:
        return dialogues, counts, warnings
    summary = (
        f"Of {len(dialogues)} held-out dialogues, {counts['exact']} are in the training data "
        f"and {counts['near']} nearly are (Jaccard ≥ 0.8)"
    )
    if chosen.leakage == "error":
        raise InputError(f"{chosen.source}: {summary}. Set dialogues.leakage to drop to measure without them.")
    if chosen.leakage == "warn":
        return dialogues, counts, [*warnings, f"{summary}; they were measured anyway (leakage: warn)."]
    counts["dropped"] = len(leaks.ids)
    kept = tuple(dialogue for dialogue in dialogues if dialogue.id not in leaks.ids)
    return kept, counts, [*warnings, f"{summary}; they were dropped."]
