"""Measure what the rooflines are computed from: the machine's limits and the bytes of a loaded variant."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from harness.backends.local.batches import text_config
from harness.backends.local.device import synchronize
from harness.backends.local.one_token import one_token
from harness.backends.local.transformers_types import CausalLM
from harness.errors import HarnessError
from harness.files import user_cache, write_text_atomically
from harness.machine import cpu_name
from harness.results.roofline import Footprint, Limits


def measure_limits(device: str, *, cache: Path | None = None) -> Limits:
    """Measure bandwidth and matrix throughput in a few seconds; each device's result is kept in the user's cache.

    The copied buffer is several times larger than any cache; the matrices are random, because zeros run faster.
    """
    name = str(torch.cuda.get_device_name(device)) if device.startswith("cuda") else cpu_name()
    folder = user_cache()
    path = cache or (folder / "limits.json" if folder else None)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    identity = f"{name} | torch {torch.__version__} | {torch.get_num_threads()} threads | {dtype}"
    known = _read_cache(path) if path else {}
    if identity in known:
        return Limits(**known[identity])
    limits = Limits(name, str(dtype).removeprefix("torch."), _bandwidth(device), _matmul(device, dtype))
    known[identity] = asdict(limits)
    if path:
        _write_cache(path, known)
    return limits


def footprint(model: CausalLM) -> Footprint:
    """Count the bytes of a loaded model as stored in memory: packed 4-bit weights, their scales, LoRA factors.

    Only active adapters are counted: the others are not read. Nor are experts that a token is not sent to. Runs one
    token through the model.
    """
    text = text_config(model)
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    output = None if head is None else getattr(head, "base_layer", head).weight
    tied = output is not None and output.data_ptr() == table.data_ptr()
    weights = streamed = parameters = 0
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            continue
        size = int(parameter.numel() * parameter.element_size())
        weights += size
        if parameter is not table or tied:
            streamed += size
        if parameter is not table and parameter is not output:
            parameters += _logical_count(parameter)
    scales = sum(int(scale.numel() * scale.element_size()) for module in model.modules() for scale in _scales(module))
    buffers = sum(int(buffer.numel() * buffer.element_size()) for buffer in model.buffers())
    heads = text.num_attention_heads
    cost = one_token(model)
    windowed = [layer for layer in cost.layers or () if layer.window]
    windows = {layer.window for layer in windowed}
    known = cost.layers is not None and cost.unread_bytes is not None and len(windows) < 2
    return Footprint(
        weights=weights + scales + buffers,
        streamed=streamed + scales - (cost.unread_bytes or 0),
        adapter=sum(int(one.numel() * one.element_size()) for one in _active_adapter(model)),
        kv_per_token=sum(layer.size for layer in cost.layers) if cost.layers is not None else 0,
        parameters=parameters - cost.unread_weights,
        layers=text.num_hidden_layers,
        hidden=heads * (getattr(text, "head_dim", None) or text.hidden_size // heads),
        window=max(windows, default=0),
        kv_in_window=sum(layer.size for layer in windowed),
        layers_in_window=len(windowed),
        routed=cost.routed,
        known=known,
    )


def _active_adapter(model: CausalLM) -> Iterator[Any]:
    """Yield the LoRA factors that a forward pass reads."""
    for module in model.modules():
        if hasattr(module, "lora_A") and not module.disable_adapters:
            for name in module.active_adapters:
                for factors in (module.lora_A, module.lora_B):
                    if name in factors:
                        yield factors[name].weight


def _scales(module: Any) -> Iterator[Any]:
    """Yield the scales of a quantised layer: absmax (and its own scales) for 4-bit, row scales for int8."""
    weight = module._parameters.get("weight") if hasattr(module, "_parameters") else None
    state = getattr(weight, "quant_state", None)
    if state is not None:
        yield state.absmax
        if getattr(state, "state2", None) is not None:
            yield state.state2.absmax
    # bitsandbytes moves int8 scales from the weight to the layer's state at the first forward.
    for holder in (weight, getattr(module, "state", None)):
        scales = getattr(holder, "SCB", None)
        if scales is not None:
            yield scales
            return


def _logical_count(parameter: Any) -> int:
    """Return how many weights a parameter represents: two per byte in a packed 4-bit one."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return int(parameter.numel())
    return math.prod(int(size) for size in state.shape)


def _bandwidth(device: str) -> float:
    elements = 2**29 if device.startswith("cuda") else 2**26  # 2 GiB and 256 MiB of float32
    source = torch.empty(elements, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    seconds = _seconds(lambda: target.copy_(source), device)
    return 2 * source.numel() * 4 / seconds


def _matmul(device: str, dtype: Any) -> float:
    side = 8192 if device.startswith("cuda") else 1024
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    out = torch.empty(side, side, device=device, dtype=dtype)
    seconds = _seconds(lambda: torch.mm(left, right, out=out), device)
    return 2 * side**3 / seconds


def _seconds(work: Callable[[], Any], device: str, repeats: int = 10) -> float:
    """Return the median seconds of ``work`` after warm-up, synchronizing the device around each call."""
    for _ in range(3):
        work()
    synchronize(device)
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        synchronize(device)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_cache(path: Path, known: dict[str, Any]) -> None:
    try:
        write_text_atomically(path, json.dumps(known, indent=1))
    except (HarnessError, OSError):
        return  # with a read-only home, the next run only has to measure again
