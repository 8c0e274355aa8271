"""Models whose layers are on several GPUs, one after another; accelerate's hooks hand the states on."""

from __future__ import annotations

from typing import Any

import torch

from harness.backends.local.transformers_types import CausalLM


def spread_over(model: CausalLM) -> str | None:
    """Return in words over which devices the layers are spread, or None if all are on one."""
    devices = sorted({str(parameter.device) for parameter in model.parameters()})
    return None if len(devices) < 2 else f"its layers are spread over {', '.join(devices)}"


def device_of(module: Any) -> torch.device:
    """Return where a module computes: the device of its first weight."""
    found: torch.device = next(iter(module.parameters())).device
    return found
