"""The 4-bit form that training, merging and measuring share: nf4, blocks of 64, double quantisation.

Libraries are imported only when a weight is held so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch
    from transformers import BitsAndBytesConfig

QUANT_TYPE = "nf4"


class HeldWeight(Protocol):
    """What is used of bitsandbytes' ``Params4bit``: packed values and how they were quantised."""

    data: torch.Tensor
    quant_state: Any


def bitsandbytes() -> Any:
    """Return the library, imported only when 4-bit weights are met. It is untyped, so it is handed out as Any."""
    import bitsandbytes

    return bitsandbytes


def nf4_config(dtype: str) -> BitsAndBytesConfig:
    """Return how transformers is asked to load a model in this form, computing in ``dtype``."""
    import torch
    from transformers import BitsAndBytesConfig

    configuration: Callable[..., BitsAndBytesConfig] = BitsAndBytesConfig  # which transformers leaves untyped
    return configuration(
        load_in_4bit=True,
        bnb_4bit_quant_type=QUANT_TYPE,
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=getattr(torch, dtype),
    )


def quantize(weight: torch.Tensor) -> HeldWeight:
    """Return the weight as bitsandbytes holds it, on the weight's own device."""
    options = {"requires_grad": False, "compress_statistics": True, "quant_type": QUANT_TYPE}
    held = bitsandbytes().nn.Params4bit(weight.contiguous(), **options)
    on_device: HeldWeight = held.to(weight.device)  # which is when it is quantised
    return on_device


def dequantize(held: HeldWeight) -> torch.Tensor:
    """Return the values that the layer computes with, in the dtype they were quantised from."""
    values: torch.Tensor = bitsandbytes().functional.dequantize_4bit(held.data, held.quant_state)
    return values
