"""Which weights of a model are quantised to 4 bits, how they are saved, and whether quantisation works here."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, InputError, first_line
from harness.variants.nf4 import QuantizedWeight

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

# nf4 has an error of about 9 % on roughly normal weights. A known corruption (4-bit weights that a CPU kernel has
# repacked in place dequantise to garbage) gives 140 %.
LARGEST_ERROR = 0.3


def saved_form(name: str, held: QuantizedWeight) -> dict[str, torch.Tensor]:
    """Return the tensors that transformers saves and loads for a 4-bit weight."""
    packed = held.quant_state.as_dict(packed=True)
    return {name: held.data, **{f"{name}.{key}": value for key, value in packed.items()}}


def quantization_error(name: str, original: torch.Tensor, values: torch.Tensor) -> float:
    """Return ‖W − dequantised W‖/‖W‖; raise HarnessError if it is far beyond nf4's error."""
    norm = float(original.float().norm())
    error = float((original.float() - values.float()).norm()) / norm if norm > 0 else 0.0
    if not math.isfinite(error) or error > LARGEST_ERROR:
        raise HarnessError(
            f"Dequantising '{name}' gave a relative error of {error:.2f}, but nf4's is about 0.09: "
            "the 4-bit kernels of this machine are unreliable. Merge on another device."
        )
    return error


@dataclass(frozen=True)
class LinearModules:
    """Which modules become 4-bit layers when transformers loads the model, and which are stored transposed (Conv1D)."""

    quantized: frozenset[str]
    transposed: frozenset[str]


def skeleton(folder: Path) -> PreTrainedModel:
    """Return a model without weights, for its names and shapes; raise InputError if it cannot be built."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    untyped: Any = AutoModelForCausalLM
    try:
        with torch.device("meta"):
            model: PreTrainedModel = untyped.from_config(AutoConfig.from_pretrained(str(folder), local_files_only=True))
    except (ValueError, OSError, KeyError) as error:
        raise InputError(f"{folder}: transformers cannot build this model ({first_line(error)}).") from error
    return model


def linear_modules(folder: Path) -> LinearModules:
    """Return the model's linear layers by transformers' own rules; raise InputError if it cannot be built."""
    import torch
    from transformers.pytorch_utils import Conv1D
    from transformers.quantizers.base import get_keys_to_not_convert
    from transformers.quantizers.quantizers_utils import should_convert_module

    model = skeleton(folder)
    kept = [*get_keys_to_not_convert(model), *(getattr(model, "_keep_in_fp32_modules", None) or [])]
    linear = {name: type(module) for name, module in model.named_modules() if type(module) in (torch.nn.Linear, Conv1D)}
    return LinearModules(
        frozenset(name for name in linear if should_convert_module(name, kept)),
        frozenset(name for name, kind in linear.items() if kind is Conv1D),
    )
