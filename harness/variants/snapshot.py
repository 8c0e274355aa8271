"""Notice files of variants that are replaced during a run: what is measured must be what was digested and checked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.variants.artifacts import ADAPTER_WEIGHTS, INDEX_NAME, SETTINGS
from harness.variants.model import Variant
from harness.variants.remembered import Identity


@dataclass(frozen=True)
class Snapshot:
    """The identity of every file in the variants' folders that is loaded, by folder."""

    folders: Mapping[str, Mapping[Path, Identity]]

    @classmethod
    def of(cls, variants: Iterable[Variant]) -> Snapshot:
        """Take it now."""
        return cls({folder: _identities(folder) for variant in variants for folder in _folders(variant)})

    def refuse_changed(self, variants: Iterable[Variant]) -> None:
        """Raise InputError if a file of these variants was replaced, added or removed since."""
        for folder in dict.fromkeys(folder for variant in variants for folder in _folders(variant)):
            before, now = self.folders.get(folder), _identities(folder)
            if before is not None and before != now:
                changed = min(path for path in {**before, **now} if before.get(path) != now.get(path))
                raise InputError(
                    f"{changed} was changed since this run began, so it is not what was checked. "
                    "Run the same command again when nothing writes to it."
                )


def _folders(variant: Variant) -> tuple[str, ...]:
    if variant.is_served:
        return (variant.tokenizer_folder,)
    return (variant.model,) if variant.adapter is None else (variant.model, variant.adapter)


def _identities(folder: str) -> dict[Path, Identity]:
    root = Path(folder)
    named = (root / name for name in (*SETTINGS, INDEX_NAME, ADAPTER_WEIGHTS, "adapter_config.json"))
    return {path: Identity.of(path) for path in {*root.glob("*.safetensors"), *named} if path.is_file()}
