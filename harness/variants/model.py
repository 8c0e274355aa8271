"""Variants: what is measured, and ``variants.json``, in which ``finetune`` lists what it made.

No torch here: ``harness.backends.local.loading`` loads weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from harness.errors import did_you_mean
from harness.files import write_text_atomically

Kind = Literal["base", "adapter", "merged", "endpoint"]
Quantization = Literal["none", "nf4", "int8"]
DType = Literal["float32", "bfloat16", "float16", "auto"]
MergeStrategy = Literal["dequantized", "original", "in-place-4bit"]
SERVED_KEYS = ("url", "tokenizer", "same_as", "api_key_env", "allow_http")


class Variant(BaseModel):
    """One model to measure. ``model`` and ``adapter`` are folders or Hub IDs; ``locate`` makes folders absolute.

    ``dtype`` is the compute dtype; ``auto`` is the one the weights were saved in. Of kind ``endpoint``, ``model`` is
    the name that the server at ``url`` knows it by, and ``tokenizer`` the folder or Hub ID of its tokenizer.
    ``same_as`` names the variant whose weights it claims to serve, ``api_key_env`` the environment variable with its
    key.
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
    # Of an adapter; variants of one recipe that differ in the seed alone are judged together.
    recipe_digest: str | None = Field(None, exclude_if=lambda one: one is None)
    seed: int | None = Field(None, ge=0, exclude_if=lambda one: one is None)
    # Of a served variant.
    url: str | None = None
    tokenizer: str | None = None
    same_as: str | None = None
    api_key_env: str | None = None
    allow_http: bool | None = None

    @property
    def is_served(self) -> bool:
        """Whether it is asked at a server, so that there are no weights to read."""
        return self.kind == "endpoint"

    @property
    def tokenizer_folder(self) -> str:
        """The folder or Hub ID of its tokenizer."""
        return self.tokenizer or self.model

    @field_validator("model", "adapter", "tokenizer")
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

    @model_validator(mode="after")
    def _server_matches_kind(self) -> Variant:
        stated = [name for name in SERVED_KEYS if getattr(self, name)]
        if not self.is_served and stated:
            raise ValueError(f"variant '{self.name}' is of kind {self.kind} but has '{stated[0]}'")
        if self.is_served:
            for name in ("url", "tokenizer"):
                if not getattr(self, name):
                    raise ValueError(f"variant '{self.name}' is an endpoint but has no '{name}'")
            if self.quantization != "none" or self.dtype != "auto":
                raise ValueError(f"variant '{self.name}' is an endpoint: its server chooses 'quantization' and 'dtype'")
            refuse_unsafe_url(str(self.url), allow_http=bool(self.allow_http))
        return self


def refuse_unsafe_url(url: str, *, allow_http: bool) -> None:
    """Raise ValueError for an address that medical text must not be sent to, or that is none.

    No message repeats the address, which may contain a password.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("url is not an address; write it as https://HOST/v1") from error
    if parts.scheme not in ("http", "https") or not host or any(map(str.isspace, url)):
        raise ValueError("url is not an address; write it as https://HOST/v1")
    if "@" in parts.netloc:
        raise ValueError("url contains a user name or a password; name the variable that holds a key as api_key_env")
    if parts.query or parts.fragment:
        raise ValueError("url must end with its path, for example https://HOST/v1")
    if parts.scheme == "http" and not allow_http and not _is_loopback(host):
        raise ValueError(
            "url begins with http, so anyone on the way could read the dialogues; use https, or set allow_http: true"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def refuse_duplicate_names(variants: Sequence[Variant]) -> None:
    """Raise ValueError if there are no variants, two have the same name, or ``same_as`` names none with weights."""
    names = [variant.name for variant in variants]
    if not names:
        raise ValueError("variants: list at least one")
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise ValueError(f"variants: the name '{duplicates[0]}' is used twice")
    local = [variant.name for variant in variants if not variant.is_served]
    for variant in variants:
        if variant.same_as is not None and variant.same_as not in local:
            raise ValueError(
                f"variants: '{variant.name}' is same_as '{variant.same_as}', which is no variant with weights here."
                f"{did_you_mean(variant.same_as, local)}"
            )


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
