"""How fast the hardware could be: measured limits, and each variant's floor under them.

floor per decode step = (weight bytes read + KV bytes + adapter bytes) / measured memory bandwidth; mbu = floor / TPOT.
Embedding rows are looked up, not streamed, so an untied embedding table is not counted.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Limits:
    """Measured on the spot: bytes per second of memory traffic (read + written), and matrix FLOP per second."""

    device: str
    dtype: str
    bandwidth_bytes_s: float
    matmul_flops_s: float


@dataclass(frozen=True)
class Footprint:
    """Bytes of a loaded variant. ``streamed`` is what one decode step must read of the weights (adapters apart)."""

    weights: int
    streamed: int
    adapter: int
    kv_per_token: int
    parameters: int
    layers: int
    hidden: int

    def step_floor_s(self, limits: Limits, batch: int, context: float) -> float:
        """Return the least time of one decode step, in seconds, by memory traffic alone."""
        moved = self.streamed + self.adapter + batch * context * self.kv_per_token
        return moved / limits.bandwidth_bytes_s

    def prefill_flops(self, tokens: int) -> float:
        """Return the floating-point operations of a prompt of ``tokens`` (2 a weight and token, and the attention's).

        The output layer runs at the last position alone and is left out, as is the embedding.
        """
        attention = 2 * 2 * self.layers * self.hidden * tokens * tokens / 2  # QK^T and PV, causal half
        return 2.0 * self.parameters * tokens + attention


def measure_limits(device: str, *, cache: Path | None = None) -> Limits:
    """Measure bandwidth and matrix throughput in a few seconds; a device's result is kept in ``cache``.

    The copy is several times any cache; the matrices are random, because zeros run faster than real data.
    """
    import torch

    name = _device_name(device)
    path = cache or default_cache()
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    identity = f"{name} | torch {torch.__version__} | {torch.get_num_threads()} threads | {dtype}"
    known = _read_cache(path)
    if identity in known:
        return Limits(**known[identity])
    limits = Limits(name, str(dtype).removeprefix("torch."), _bandwidth(device), _matmul(device, dtype))
    known[identity] = asdict(limits)
    _write_cache(path, known)
    return limits


def default_cache() -> Path:
    """Return where limits are kept between runs."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "medical-dialogue-harness" / "limits.json"


def footprint(model: Any, *, adapter: bool) -> Footprint:
    """Count the bytes of a loaded model as they lie in memory: packed 4-bit weights, their scales, LoRA factors.

    ``adapter`` says whether LoRA weights are switched on for this variant; where they are off they cost no reads.
    """
    config = model.config
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    embedding = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    tied = head is not None and _base_weight(head).data_ptr() == embedding.data_ptr()
    weights = streamed = lora = parameters = 0
    for name, parameter in model.named_parameters():
        size = _stored_bytes(parameter)
        if "lora_" in name:
            lora += size if adapter else 0
            continue
        weights += size
        is_embedding = parameter.data_ptr() == embedding.data_ptr()
        if not is_embedding or tied:
            streamed += size
        if not is_embedding and not (head is not None and parameter.data_ptr() == _base_weight(head).data_ptr()):
            parameters += _logical_count(parameter)
    heads = text.num_attention_heads
    kv_heads = getattr(text, "num_key_value_heads", None) or heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // heads
    cache_bytes = 2 if str(model.dtype) in {"torch.bfloat16", "torch.float16"} else 4
    return Footprint(
        weights=weights,
        streamed=streamed,
        adapter=lora,
        kv_per_token=2 * text.num_hidden_layers * kv_heads * head_dim * cache_bytes,
        parameters=parameters,
        layers=text.num_hidden_layers,
        hidden=heads * head_dim,
    )


def _base_weight(layer: Any) -> Any:
    return getattr(layer, "base_layer", layer).weight


def _stored_bytes(parameter: Any) -> int:
    """Bytes of a parameter and, for a 4-bit one, of the scales that belong to it."""
    size = int(parameter.numel() * parameter.element_size())
    state = getattr(parameter, "quant_state", None)
    if state is not None:
        size += int(state.absmax.numel() * state.absmax.element_size())
        nested = getattr(state, "state2", None)
        if nested is not None:
            size += int(nested.absmax.numel() * nested.absmax.element_size())
    scales = getattr(parameter, "SCB", None)
    if scales is not None:
        size += int(scales.numel() * scales.element_size())
    return size


def _logical_count(parameter: Any) -> int:
    """Weights that a parameter stands for: two to a byte in a packed 4-bit one."""
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return int(parameter.numel())
    count = 1
    for size in state.shape:
        count *= int(size)
    return count


def _bandwidth(device: str) -> float:
    import torch

    elements = 2**29 if device.startswith("cuda") else 2**26  # 2 GiB and 256 MiB of float32
    source = torch.empty(elements, dtype=torch.float32, device=device).normal_()
    target = torch.empty_like(source)
    seconds = _best(lambda: target.copy_(source), device)
    return 2 * source.numel() * 4 / seconds


def _matmul(device: str, dtype: Any) -> float:
    import torch

    side = 8192 if device.startswith("cuda") else 1024
    left = torch.randn(side, side, device=device).to(dtype)
    right = torch.randn(side, side, device=device).to(dtype)
    out = torch.empty(side, side, device=device, dtype=dtype)
    seconds = _best(lambda: torch.mm(left, right, out=out), device)
    return 2 * side**3 / seconds


def _best(work: Any, device: str, repeats: int = 10) -> float:
    """Median seconds of ``work``, after warm-up, with the device drained around each."""
    import statistics

    import torch

    def drain() -> None:
        if device.startswith("cuda"):
            torch.cuda.synchronize(device)

    for _ in range(3):
        work()
    drain()
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        drain()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def _device_name(device: str) -> str:
    import torch

    if device.startswith("cuda"):
        return str(torch.cuda.get_device_name(device))
    from harness.provenance import hardware

    return str(hardware()["cpu"])


def _read_cache(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _write_cache(path: Path, known: dict[str, Any]) -> None:
    from harness.errors import HarnessError
    from harness.store import write_text_atomically

    try:
        write_text_atomically(path, json.dumps(known, indent=1))
    except (HarnessError, OSError):
        return  # a read-only home costs the next run a few seconds, nothing else
