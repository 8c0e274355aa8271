"""Read ``variants.json``, or the variants listed in a config, and make every path absolute."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from harness.errors import InputError, did_you_mean
from harness.variants.model import Variant, VariantsManifest, locate


@dataclass(frozen=True)
class ResolvedVariants:
    """The variants of a run with absolute paths, and what ``finetune`` left beside them (None: made elsewhere)."""

    variants: tuple[Variant, ...]
    manifest: VariantsManifest | None
    folder: Path | None

    @property
    def fingerprints(self) -> Path | None:
        """The file in which the manifest says what the variants were trained on; None where it names none."""
        if self.manifest and self.folder and self.manifest.fingerprints:
            return (self.folder / self.manifest.fingerprints).resolve()
        return None


def resolve_variants(named: str | Sequence[Variant], beside: Path | None = None) -> ResolvedVariants:
    """Return the variants that a config names: the path of a ``variants.json``, or themselves one by one.

    Relative paths are looked up here, then in ``beside``, the config file's folder. Raises InputError where
    ``variants.json`` is missing, damaged or names a variant twice.
    """
    if isinstance(named, str):
        path = find(named, beside)
        manifest = read_manifest(path)
        folder = path.resolve().parent
        return ResolvedVariants(tuple(_located(variant, folder) for variant in manifest.variants), manifest, folder)
    base = (beside or Path()).resolve()
    return ResolvedVariants(tuple(_located(variant, Path.cwd(), base) for variant in named), None, None)


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


def _located(variant: Variant, *folders: Path) -> Variant:
    changes: dict[str, str] = {}
    for field in ("model", "adapter"):
        value = getattr(variant, field)
        if value is None:
            continue
        changes[field] = next((found for folder in folders if (found := locate(value, folder)) != value), value)
    return variant.model_copy(update=changes)
