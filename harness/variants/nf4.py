"""The 4-bit format shared by training, merging and measuring: nf4, blocks of 64, double quantisation.

Libraries are imported only when 4-bit weights are used.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

QUANT_TYPE = "nf4"


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
