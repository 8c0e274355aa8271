"""Read ``variants.json``, or the variants listed in a config, and make every path absolute."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.config import FidelityPair, RunConfig
from harness.dialogues.leakage import FILE_NAME
from harness.errors import InputError, did_you_mean
from harness.variants.model import Variant, VariantsManifest, locate


@dataclass(frozen=True)
class ResolvedVariants:
    """The variants of a run with absolute paths, and what ``finetune`` left beside them (None: made elsewhere)."""

    variants: tuple[Variant, ...]
    manifest: VariantsManifest | None
    folder: Path | None

    def fingerprint_files(self) -> tuple[Path, ...]:
        """Return the files that say what the variants were trained on: the manifest's, and those beside adapters."""
        files: list[Path] = []
        if self.manifest and self.folder and self.manifest.fingerprints:
            files.append((self.folder / self.manifest.fingerprints).resolve())
        beside = (Path(variant.adapter).resolve() / FILE_NAME for variant in self.variants if variant.adapter)
        files.extend(file for file in beside if file.is_file())
        return tuple(dict.fromkeys(files))


def resolve_variants(config: RunConfig, beside: Path | None = None) -> ResolvedVariants:
    """Return the variants that a config names; relative paths are looked up here, then beside the config file.

    Raises InputError where ``variants.json`` is missing, damaged or names a variant twice, and where the config's
    fidelity pairs name a variant that is not there.
    """
    resolved = _resolved(config, beside)
    refuse_unknown_pairs(config.fidelity or (), [variant.name for variant in resolved.variants])
    return resolved


def refuse_unknown_pairs(pairs: Iterable[FidelityPair], names: Sequence[str]) -> None:
    """Raise InputError where a pair names a variant that is not there."""
    for pair in pairs:
        for name in (pair.variant, pair.against):
            if name not in names:
                raise InputError(
                    f"fidelity: there is no variant '{name}'. There are: {', '.join(names)}.{did_you_mean(name, names)}"
                )


def _resolved(config: RunConfig, beside: Path | None) -> ResolvedVariants:
    if isinstance(config.variants, str):
        path = find(config.variants, beside)
        manifest = read_manifest(path)
        folder = path.resolve().parent
        variants = tuple(_located(variant, folder) for variant in manifest.variants)
        return ResolvedVariants(variants, manifest, folder)
    base = (beside or Path()).resolve()
    variants = tuple(_located(variant, Path.cwd(), base) for variant in config.variants)
    return ResolvedVariants(variants, None, None)


def find(path: str, beside: Path | None) -> Path:
    """Return ``path`` as it is found from here, or else from the config file's folder."""
    here = Path(path)
    if not here.exists() and beside is not None and (beside / path).exists():
        return beside / path
    return here


def read_manifest(path: Path) -> VariantsManifest:
    """Return a ``variants.json``; raise InputError saying what is wrong with it."""
    if path.is_dir():
        path = path / "variants.json"
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. Make it with 'python -m finetune run', or list the variants in the config."
        )
    try:
        manifest = VariantsManifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(str(part) for part in problem["loc"])
        hint = ""
        if problem["type"] == "extra_forbidden":
            known = {*Variant.model_fields, *VariantsManifest.model_fields}
            hint = did_you_mean(str(problem["loc"][-1]), known)
        raise InputError(f"{path}: {key}: {str(problem['msg']).removeprefix('Value error, ')}.{hint}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({error}).") from error
    names = [variant.name for variant in manifest.variants]
    if not names:
        raise InputError(f"{path} names no variants.")
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"{path}: the variant name '{name}' is used twice.")
    return manifest


def reference_variant(config: RunConfig, variants: tuple[Variant, ...]) -> str:
    """Return what differences are taken against: the configured variant, else the first base, else the first."""
    names = [variant.name for variant in variants]
    wanted = config.reference_variant
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"reference_variant: no variant is named '{wanted}'.{did_you_mean(wanted, names)}")
        return wanted
    return next((variant.name for variant in variants if variant.kind == "base"), names[0])


def _located(variant: Variant, *folders: Path) -> Variant:
    changes: dict[str, str] = {}
    for field in ("model", "adapter"):
        value = getattr(variant, field)
        if value is None:
            continue
        changes[field] = next((found for folder in folders if (found := locate(value, folder)) != value), value)
    return variant.model_copy(update=changes)
