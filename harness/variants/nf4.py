"""The 4-bit format shared by training, merging and measuring: nf4, blocks of 64, double quantisation.

Libraries are imported only when 4-bit weights are used.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from harness.errors import HarnessError

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

QUANT_TYPE = "nf4"
# nf4 has an error of about 9 % on roughly normal weights. A known corruption (4-bit weights that a CPU kernel has
# repacked in place dequantise to garbage) gives 140 %.
LARGEST_ERROR = 0.3


class QuantizedWeight(Protocol):
    """The part of bitsandbytes' ``Params4bit`` that is used: packed values and their quantisation state."""

    data: torch.Tensor
    quant_state: Any


def bitsandbytes() -> Any:
    """Return the library (untyped, hence Any), imported only when needed."""
    import bitsandbytes

    return bitsandbytes


def nf4_config(dtype: str) -> BitsAndBytesConfig:
    """Return the transformers configuration that loads a model in this format and computes in ``dtype``."""
    import torch
    from transformers import BitsAndBytesConfig

    configuration: Callable[..., BitsAndBytesConfig] = BitsAndBytesConfig  # untyped in transformers
    return configuration(
        load_in_4bit=True,
        bnb_4bit_quant_type=QUANT_TYPE,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def quantize(weight: torch.Tensor) -> QuantizedWeight:
    """Return the weight quantised by bitsandbytes, on its own device."""
    options = {"requires_grad": False, "compress_statistics": True, "quant_type": QUANT_TYPE}
    held = bitsandbytes().nn.Params4bit(weight.contiguous(), **options)
    on_device: QuantizedWeight = held.to(weight.device)  # this quantises it
    return on_device


def dequantize(held: QuantizedWeight) -> torch.Tensor:
    """Return the values that the layer computes with, in the dtype they were quantised from."""
    values: torch.Tensor = bitsandbytes().functional.dequantize_4bit(held.data, held.quant_state)
    return values


def linear_modules(model: Any) -> Mapping[str, bool]:
    """Return the modules that transformers holds in 4 bits, and whether each stores its weight transposed (Conv1D).

    ``model`` may be without weights.
    """
    import torch
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    kept = [*get_keys_to_not_convert(model), *(getattr(model, "_keep_in_fp32_modules", None) or [])]
    linear = {name: type(module) for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)}
    return {name: kind is Conv1D for name, kind in linear.items() if should_convert_module(name, kept)}


def rounded_to_nf4(name: str, weight: torch.Tensor, *, transposed: bool) -> tuple[torch.Tensor, float]:
    """Return a weight as training over 4 bits sees it, in its own dtype, and ‖W − dequantised W‖/‖W‖.

    ``transposed``: transformers quantises the transpose of what the layer stores. Raises HarnessError if the error is
    far beyond nf4's.
    """
    held = dequantize(quantize(weight.T if transposed else weight))
    values = held.T.contiguous() if transposed else held
    norm = float(weight.float().norm())
    error = float((weight.float() - values.float()).norm()) / norm if norm > 0 else 0.0
    if not math.isfinite(error) or error > LARGEST_ERROR:
        raise HarnessError(
            f"Dequantising '{name}' gave a relative error of {error:.2f}, but nf4's is about 0.09: "
            "the 4-bit kernels of this machine are unreliable. Merge on another device."
        )
    return values, error
