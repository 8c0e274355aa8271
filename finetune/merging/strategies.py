"""How one weight is merged: three strategies, each a small function from the weight on disk to the tensors to save.

All three get ``trained``, the weight as it was during training (dequantised if it was 4-bit), and ``target`` =
trained + ΔW, which is what was trained. They differ in what they save.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from finetune.merging.lora import LoraChange
from finetune.merging.quantize import saved_form
from harness.errors import InputError, did_you_mean
from harness.variants.nf4 import QUANT_TYPE, QuantizedWeight, bitsandbytes, dequantize, quantize

if TYPE_CHECKING:
    import torch
    from peft import LoraConfig


@dataclass(frozen=True)
class Weight:
    """One weight of the base: on disk, as trained over, and with the adapter. float32 except for ``original``.

    ``original`` has the dtype in which the model was loaded for training; ``quantized``: it was 4-bit in training.
    """

    name: str
    original: torch.Tensor
    trained: torch.Tensor
    change: LoraChange | None
    quantized: bool
    dtype: torch.dtype

    @property
    def target(self) -> torch.Tensor:
        return self.change.apply(self.trained) if self.change else self.trained


@dataclass(frozen=True)
class Merged:
    """``tensors`` to save by full name, and ``effective``, the weight that a loaded model computes with (float32)."""

    tensors: Mapping[str, torch.Tensor]
    effective: torch.Tensor = field(repr=False)


def merge_dequantized(weight: Weight) -> Merged:
    """Add ΔW to the trained-over weight in float32 and round once: what was trained, up to that rounding."""
    merged = weight.target.to(weight.dtype)
    return Merged({weight.name: merged}, merged.float())


def merge_original(weight: Weight) -> Merged:
    """Add ΔW to the unquantised weight: free of quantisation error, but not what was trained."""
    plain = weight.original.float()
    merged = (weight.change.apply(plain) if weight.change else plain).to(weight.dtype)
    return Merged({weight.name: merged}, merged.float())


def merge_in_place_4bit(weight: Weight, lora_config: LoraConfig) -> Merged:
    """Merge as PEFT does: dequantise, add, quantise again. Rounding to 4 bits loses most of a small ΔW."""
    if not weight.quantized:
        return merge_dequantized(weight)
    held = quantize(weight.original)
    if weight.change is not None:
        held = _merge_with_peft(held, weight, lora_config)
    return Merged(saved_form(weight.name, held), dequantize(held).float())


def _merge_with_peft(held: QuantizedWeight, weight: Weight, lora_config: LoraConfig) -> QuantizedWeight:
    """Run PEFT's merge on one layer, so that PEFT's own arithmetic is measured and not a copy of it."""
    import warnings

    import torch
    from peft.tuners.lora import bnb as peft_bnb

    change = weight.change
    assert change is not None
    rows, columns = weight.original.shape
    with torch.device("meta"):
        linear = bitsandbytes().nn.Linear4bit
        layer = linear(columns, rows, bias=False, compute_dtype=weight.dtype, quant_type=QUANT_TYPE)
    layer.weight = held
    lora_layer: Any = peft_bnb.Linear4bit
    wrapped = lora_layer(layer, "default", config=lora_config, r=change.rank, lora_alpha=1)
    device = weight.trained.device
    wrapped.lora_A["default"].weight.data = change.a.to(device)
    wrapped.lora_B["default"].weight.data = change.b.to(device)
    wrapped.scaling["default"] = change.scaling
    if change.magnitude is not None:
        wrapped.lora_magnitude_vector["default"].weight.data = change.magnitude.to(device)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the report states the loss of precision
        wrapped.merge()
    merged: QuantizedWeight = layer.weight
    return merged


StrategyFunction = Callable[[Weight], Merged]


def strategy_function(name: str, lora_config: LoraConfig) -> StrategyFunction:
    """Return the function for a strategy's name; raise InputError for any other name."""
    functions: dict[str, StrategyFunction] = {
        "dequantized": merge_dequantized,
        "original": merge_original,
        "in-place-4bit": partial(merge_in_place_4bit, lora_config=lora_config),
    }
    if name not in functions:
        raise InputError(f"There is no merge strategy '{name}'.{did_you_mean(name, functions)}")
    return functions[name]
