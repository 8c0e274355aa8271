"""The files behind a run's variants: located, downloaded for Hub IDs, checked and digested. No torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

from harness.errors import InputError
from harness.files import digest_file, digest_value, read_json
from harness.variants.artifacts import (
    ADAPTER_WEIGHTS,
    SETTINGS,
    adapter_facts,
    check_adapter_folder,
    check_model_folder,
    resolve_model,
    weight_files,
)
from harness.variants.digests import (
    digest_adapter_folder,
    digest_model_folder,
    earlier_adapter_digest,
    earlier_model_digest,
    is_present,
    joined,
)
from harness.variants.merge_report import read_merge_report
from harness.variants.model import Variant
from harness.variants.reading import read_ahead, read_weights
from harness.variants.resolve import ResolvedVariants


def local_variants(resolved: ResolvedVariants) -> ResolvedVariants:
    """Return the variants with every model and adapter as a checked local folder.

    Facts that a variant does not state are read from ``finetune``'s records beside its adapter or merge, so that
    variants listed by hand are checked and paired like those in ``variants.json``. Raises InputError for a folder that
    is missing, of the wrong kind, or has pickled or truncated weights.
    """
    return replace(resolved, variants=tuple(_local(variant) for variant in resolved.variants))


@contextmanager
def weights_read_meanwhile(variants: tuple[Variant, ...]) -> Iterator[None]:
    """Read all weights in threads while the block runs, and wait for them at its end.

    Digests and checks within this process then know what they need. If the block fails, reading ends at once. Files
    whose digests are remembered are not waited for, but read into the system's cache until they are loaded.
    """
    variants = _with_weights(variants)
    models = dict.fromkeys(variant.model for variant in variants)
    adapters = dict.fromkeys(variant.adapter for variant in variants if variant.adapter)
    files = [file for model in models for file in weight_files(Path(model))]
    files += [Path(adapter) / ADAPTER_WEIGHTS for adapter in adapters]
    stop = Event()

    def read() -> None:
        read_weights(files, stop=stop)
        Thread(target=read_ahead, args=(files,), daemon=True).start()

    with ThreadPoolExecutor(1) as thread:
        try:
            reading = thread.submit(read)
            yield
            reading.result()
        finally:
            stop.set()


def weights_digests(variants: tuple[Variant, ...], recorded: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return, by variant name, the digest of its weights and of its adapter if it has one; served ones are left out.

    ``recorded`` are the digests in the ``run.json`` of a run to be continued: if they are those of version 0.1.0, such
    are returned.
    """
    variants = _with_weights(variants)
    known = [digest for key, digest in (recorded or {}).items() if key.startswith("weights/")]
    earlier = bool(known) and not any(map(is_present, known))
    of_model = earlier_model_digest if earlier else digest_model_folder
    of_adapter = earlier_adapter_digest if earlier else digest_adapter_folder
    models = {model: of_model(model) for model in {variant.model for variant in variants}}
    adapters = {path: of_adapter(path) for path in {variant.adapter for variant in variants} if path}
    return {variant.name: joined(models[variant.model], adapters.get(variant.adapter or "")) for variant in variants}


def settings_digests(variants: tuple[Variant, ...]) -> dict[str, str]:
    """Return, by variant name, the digest of the other files that affect its replies: configuration and tokenizer."""
    folders = {}
    for folder in {variant.tokenizer_folder for variant in variants}:
        files = [Path(folder) / name for name in SETTINGS]
        folders[folder] = digest_value([[file.name, digest_file(file)] for file in files if file.is_file()])
    return {variant.name: folders[variant.tokenizer_folder] for variant in variants}


def stated_dtype(variant: Variant) -> str:
    """Return the dtype a variant is measured in: its own or, for ``auto``, the one its weights were saved in.

    That of a served variant is its server's, and unknown: ``auto``.
    """
    if variant.dtype != "auto" or variant.is_served:
        return variant.dtype
    config = read_json(Path(variant.model) / "config.json")
    return str(config.get("dtype") or config.get("torch_dtype") or "float32")


def _with_weights(variants: tuple[Variant, ...]) -> tuple[Variant, ...]:
    return tuple(variant for variant in variants if not variant.is_served)


def _local(variant: Variant) -> Variant:
    if variant.is_served:
        return variant.model_copy(update={"tokenizer": str(resolve_model(variant.tokenizer_folder))})
    model = resolve_model(variant.model)
    check_model_folder(model)
    changes: dict[str, Any] = {"model": str(model)}
    if variant.adapter is not None:
        adapter = resolve_model(variant.adapter)
        check_adapter_folder(adapter)
        changes["adapter"] = str(adapter)
        recorded = _recorded_with_adapter(adapter)
    else:
        recorded = _recorded_with_merge(model) if variant.kind == "merged" else {}
    for key in ("recipe_digest", "seed"):  # what tells trainings apart cannot be stated otherwise
        if getattr(variant, key) not in (None, recorded.get(key, getattr(variant, key))):
            raise InputError(
                f"{variant.name}: its {key} is given as {getattr(variant, key)}, but beside its adapter "
                f"{recorded[key]} is recorded. Leave it out: what is recorded is used."
            )
    missing = {key: value for key, value in recorded.items() if getattr(variant, key) is None}
    return variant.model_copy(update={**missing, **changes})


def _recorded_with_adapter(adapter: Path) -> dict[str, Any]:
    facts = adapter_facts(adapter)
    known = ("base_digest", "adapter_digest", "template", "template_digest", "recipe_digest")
    kinds = {**dict.fromkeys(known, str), "seed": int}
    return {key: facts[key] for key, kind in kinds.items() if isinstance(facts.get(key), kind)}


def _recorded_with_merge(model: Path) -> dict[str, Any]:
    report = read_merge_report(model)
    if report is None:
        return {}
    digests = report.model_dump(include={"base_digest", "adapter_digest", "model_digest"})
    return {**digests, "merge_strategy": report.strategy}
