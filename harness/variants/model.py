"""What is measured: named variants, and ``variants.json``, in which ``finetune`` hands them over.

No torch here: loading weights is ``harness.backends.local.loading``'s business.
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
    """One thing to measure. ``model`` and ``adapter`` are folders or hub ids; ``locate`` makes folders absolute.

    ``dtype`` is the compute dtype; ``auto`` takes the one the weights were saved in.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    kind: Kind
    model: str
    adapter: str | None = None
    quantization: Quantization = "none"
    dtype: DType = "auto"
    # Facts that finetune recorded; absent for models made elsewhere.
    base_digest: str | None = None
    adapter_digest: str | None = None
    model_digest: str | None = None
    merge_strategy: MergeStrategy | None = None
    template: str | None = None
    template_digest: str | None = None

    @field_validator("name")
    @classmethod
    def _not_reserved(cls, name: str) -> str:
        if name.endswith((".", "-")):
            raise ValueError("a variant's name is also a file name and may not end in '.' or '-'")
        return name

    @model_validator(mode="after")
    def _adapter_where_it_belongs(self) -> Variant:
        if self.kind == "adapter" and not self.adapter:
            raise ValueError(f"variant '{self.name}' is an adapter but names no 'adapter' folder")
        if self.kind != "adapter" and self.adapter:
            raise ValueError(f"variant '{self.name}' is of kind {self.kind} but names an 'adapter'")
        return self


def refuse_doubled_names(variants: Sequence[Variant]) -> None:
    """Raise ValueError where there is no variant, or two have the same name."""
    names = [variant.name for variant in variants]
    if not names:
        raise ValueError("variants: name at least one")
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"variants: the name '{doubled[0]}' is used twice")


class SplitFacts(BaseModel):
    """Which split the training used, so that a run finds the same held-out dialogues."""

    model_config = ConfigDict(extra="forbid")

    source: str
    source_digest: str
    salt: str
    columns: dict[str, str] = Field(default_factory=dict)
    hub_split: str = "train"  # which of a hub data set's own splits was read
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
    fingerprints: str | None = None  # the training dialogues' hashes, beside the adapter
    curves: str | None = None  # JSONL of {step, loss, learning_rate, eval_loss}
    versions: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _names_are_unique(self) -> VariantsFile:
        refuse_doubled_names(self.variants)
        return self


def locate(path: str, folder: Path) -> str:
    """Return ``path`` made absolute against ``folder`` where it exists there, else unchanged (a hub id)."""
    candidate = (folder / path).resolve()
    return str(candidate) if candidate.exists() or path.startswith((".", "/")) else path


def write_variants(file: VariantsFile, path: Path) -> None:
    """Write ``variants.json`` so that a reader never meets a half-written one."""
    text = json.dumps(file.model_dump(mode="json", by_alias=True, exclude_none=True), indent=1, ensure_ascii=False)
    write_text_atomically(path, text + "\n")
