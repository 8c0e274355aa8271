"""The three strategies: into which form of the base the adapter is merged.

``dequantized``: the base as 4-bit training saw it, added in float32 and rounded once: what was trained, up to that
rounding. ``original``: the base as it is on disk: free of 4-bit error, but not what was trained if training was 4-bit.
``in-place-4bit``: the 4-bit base, as PEFT merges: quantising again loses most of a small ΔW.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.backends.local.adapter_changes import Change, attach
from harness.backends.local.loading import load_weights
from harness.errors import InputError, first_line
from harness.variants.model import MergeStrategy, Variant
from harness.variants.nf4 import dequantize, linear_modules


@dataclass(frozen=True)
class Merging:
    """``model`` is merged once ``changes`` is used up. ``measured_as``: the base over which it equals the adapter.

    ``Change.before`` and ``target`` are of the base that was trained over, ``rounded`` is what ``model`` computes with.
    """

    model: Any
    changes: Iterator[Change]
    largest_quantization_error: float | None
    measured_as: Variant


def start_merging(strategy: MergeStrategy, base: Variant, adapter: Path, device: str) -> Merging:
    """Load the base and attach the adapter; ``base.quantization`` says what it was trained over."""
    trained = attach(base, adapter, device)
    error = trained.largest_quantization_error
    if strategy == "in-place-4bit":
        four = _merged_by_peft(base.model_copy(update={"quantization": "nf4"}), adapter, device)
        changes = (replace(change, rounded=_effective(four, change.name)) for change in trained.merge())
        return Merging(four, changes, error, base)
    if strategy == "dequantized" or base.quantization == "none":
        return Merging(trained.model, trained.merge(), error, base)
    plain = base.model_copy(update={"quantization": "none"})
    result = attach(plain, adapter, device)
    both = zip(trained.merge(), result.merge(), strict=True)
    return Merging(result.model, (replace(one, rounded=other.rounded) for one, other in both), error, plain)


def _merged_by_peft(base: Variant, adapter: Path, device: str) -> Any:
    """Return the 4-bit model as PEFT merges it, so that PEFT's own arithmetic is measured and not a copy of it."""
    from peft import PeftModel

    model: Any = load_weights(base, device)
    if any(linear_modules(model).values()):
        raise InputError(f"{base.model} stores weights transposed (Conv1D), which in-place-4bit does not support.")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report states the loss of precision
        try:
            return PeftModel.from_pretrained(model, str(adapter)).merge_and_unload()
        except (RuntimeError, ValueError) as error:
            raise InputError(f"peft cannot merge {adapter} into 4-bit weights ({first_line(error, 300)}).") from error


@torch.no_grad()
def _effective(model: Any, name: str) -> torch.Tensor:
    """Return the values that a layer computes with."""
    parameter = model.get_parameter(name)
    held = dequantize(parameter) if hasattr(parameter, "quant_state") else parameter
    values: torch.Tensor = held.detach()
    return values
