"""Read ``variants.json``, or the variants listed in a config, and make every path absolute."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files import Row, read_json, read_rows
from harness.variants.model import Variant, VariantsFile, locate
from harness.yamlfile import validate


@dataclass(frozen=True)
class ResolvedVariants:
    """The variants of a run with absolute paths, and their ``variants.json`` (None: listed in a config)."""

    variants: tuple[Variant, ...]
    file: VariantsFile | None
    folder: Path | None

    @property
    def fingerprints(self) -> Path | None:
        """The fingerprints of the training dialogues; None if ``variants.json`` names none."""
        if self.file and self.folder and self.file.fingerprints:
            return (self.folder / self.file.fingerprints).resolve()
        return None

    @property
    def curves(self) -> list[dict[str, Any]]:
        """The training curves; empty if ``variants.json`` names none."""
        if self.file and self.folder and self.file.curves:
            return read_curves(self.folder / self.file.curves)
        return []


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Return a training's rows of {step, loss, …}; empty if the file cannot be read."""
    try:
        return [row.model_dump() for row in read_rows(Row, path, torn_tail="ignore")]
    except InputError:
        return []


def resolve_variants(named: str | Sequence[Variant], beside: Path | None = None) -> ResolvedVariants:
    """Return the variants of a config, which gives the path of a ``variants.json`` or lists them.

    Relative paths are looked up in the working directory, then in ``beside``, the config file's folder. Raises
    InputError if ``variants.json`` is missing, damaged or repeats a name.
    """
    if isinstance(named, str):
        path = find(named, beside)
        file = read_variants(path)
        folder = path.resolve().parent
        return ResolvedVariants(tuple(_located(variant, folder) for variant in file.variants), file, folder)
    base = (beside or Path()).resolve()
    return ResolvedVariants(tuple(_located(variant, Path.cwd(), base) for variant in named), None, None)


def find(path: str, beside: Path | None) -> Path:
    """Return ``path`` relative to the working directory or, failing that, to the config file's folder."""
    here = Path(path)
    if not here.exists() and beside is not None and (beside / path).exists():
        return beside / path
    return here


def read_variants(path: Path) -> VariantsFile:
    """Read a ``variants.json``; raise InputError if it is missing or invalid."""
    if path.is_dir():
        path = path / "variants.json"
    if not path.is_file():
        raise InputError(
            f"{path} does not exist. Create it with 'python -m finetune run', or list the variants in the config."
        )
    return validate(VariantsFile, read_json(path), source=str(path))


def _located(variant: Variant, *folders: Path) -> Variant:
    changes: dict[str, str] = {}
    for field in ("tokenizer",) if variant.is_served else ("model", "adapter"):
        value = getattr(variant, field)
        if value is not None:
            changes[field] = next((found for folder in folders if (found := locate(value, folder)) != value), value)
    return variant.model_copy(update=changes)
