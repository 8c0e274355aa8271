"""Variants: what is measured, and ``variants.json``, in which ``finetune`` lists what it made.

No torch here: ``harness.backends.local.loading`` loads weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.files import write_text_atomically

Kind = Literal["base", "adapter", "merged"]
Quantization = Literal["none", "nf4", "int8"]
DType = Literal["float32", "bfloat16", "float16", "auto"]
MergeStrategy = Literal["dequantized", "original", "in-place-4bit"]


class Variant(BaseModel):
    """One model to measure. ``model`` and ``adapter`` are folders or Hub IDs; ``locate`` makes folders absolute.

    ``dtype`` is the compute dtype; ``auto`` is the one the weights were saved in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    kind: Kind
    model: str
    adapter: str | None = None
    quantization: Quantization = "none"
    dtype: DType = "auto"
    # Recorded by finetune; absent for models that finetune did not make.
    base_digest: str | None = None
    adapter_digest: str | None = None
    model_digest: str | None = None
    merge_strategy: MergeStrategy | None = None
    template: str | None = None
    template_digest: str | None = None

    @field_validator("model", "adapter")
    @classmethod
    def _can_be_a_path(cls, path: str | None) -> str | None:
        if path is not None and "\0" in path:
            raise ValueError("a path cannot contain a null character")
        return path

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name.endswith((".", "-")):
            raise ValueError("a variant's name is also a file name and must not end in '.' or '-'")
        return name

    @model_validator(mode="after")
    def _adapter_matches_kind(self) -> Variant:
        if self.kind == "adapter" and not self.adapter:
            raise ValueError(f"variant '{self.name}' is an adapter but has no 'adapter' folder")
        if self.kind != "adapter" and self.adapter:
            raise ValueError(f"variant '{self.name}' is of kind {self.kind} but has an 'adapter'")
        return self


def refuse_duplicate_names(variants: Sequence[Variant]) -> None:
    """Raise ValueError if there are no variants or two have the same name."""
    names = [variant.name for variant in variants]
    if not names:
        raise ValueError("variants: list at least one")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"variants: the name '{duplicates[0]}' is used twice")


class SplitFacts(BaseModel):
    """The split used for training, so that a run selects the same held-out dialogues."""

    model_config = ConfigDict(extra="forbid")

    source: str
    source_digest: str
    salt: str
    columns: dict[str, str] = Field(default_factory=dict)
    mapped: dict[str, str] | None = None  # the roles that the recipe mapped itself; None in older files
    switched_off: tuple[str, ...] = ()  # the roles that it mapped to null
    hub_split: str | None = None  # which of the data's own splits was read
    hub_config: str | None = None
    encoding: str | None = None
    on_invalid: Literal["error", "skip"] = "error"


class VariantsFile(BaseModel):
    """``variants.json``: what ``finetune`` made. Paths are relative to the file's own folder."""

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = Field(1, alias="schema")
    variants: tuple[Variant, ...]
    template: str = "know-medical"
    template_digest: str | None = None
    split: SplitFacts | None = None
    recipe: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    fingerprints: str | None = None  # hashes of the training dialogues, beside the adapter
    curves: str | None = None  # JSONL of {step, loss, learning_rate, eval_loss}
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_unique(self) -> VariantsFile:
        refuse_duplicate_names(self.variants)
        return self


def locate(path: str, folder: Path) -> str:
    """Return ``path`` resolved against ``folder`` if it exists there, else unchanged (a Hub ID)."""
    candidate = (folder / path).resolve()
    return str(candidate) if candidate.exists() or path.startswith((".", "/")) else path


def write_variants(file: VariantsFile, path: Path) -> None:
    """Write ``variants.json`` atomically."""
    text = json.dumps(file.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1, ensure_ascii=False)
    write_text_atomically(path, text + "\n")
