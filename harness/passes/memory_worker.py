"""One fresh process that loads one variant, runs the fixed workload and prints what it took, as one JSON line.

Run by the memory pass as ``python -m harness.passes.memory_worker``, with the question as JSON on standard input.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

MIB = 2**20


def peak_rss_bytes() -> int:
    """Return the most memory this process ever held.

    On Linux from VmHWM, which starts anew with each program; ``ru_maxrss`` there carries over what the parent held
    when it started this process, and would show a large harness as a large model.
    """
    try:
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def measure(question: dict[str, Any]) -> dict[str, Any]:
    """Load the variant, run prompt + reply of the asked lengths, and return sizes in MiB and seconds."""
    import torch

    from harness.engine.pool import SharedPool
    from harness.engine.roofline import footprint
    from harness.variants import Variant

    device = question["device"]
    cuda = device.startswith("cuda")
    variant = Variant.model_validate(question["variant"])
    if question.get("threads"):
        torch.set_num_threads(question["threads"])
    before = peak_rss_bytes()
    if cuda:
        torch.zeros(1, device=device)  # the context is the driver's, not the model's: create it before the clock
        torch.cuda.reset_peak_memory_stats(device)
    nvml_before = _nvml_used(device) if cuda else None
    start = time.perf_counter()
    pool = SharedPool((variant,), device)
    with pool.use(variant) as loaded, torch.inference_mode():
        if cuda:
            torch.cuda.synchronize(device)
        load_seconds = time.perf_counter() - start
        sizes = footprint(loaded.model, adapter=variant.kind == "adapter")
        weights = torch.cuda.memory_allocated(device) if cuda else sizes.weights + sizes.adapter
        cache_bytes = run_workload(loaded.model, question["batch"], question["prompt_tokens"], question["reply_tokens"])
    found: dict[str, Any] = {
        "device": device,
        "weights_mib": weights / MIB,
        "kv_cache_mib": cache_bytes / MIB,
        "kv_bytes_per_token": sizes.kv_per_token,
        "load_seconds": load_seconds,
    }
    if cuda:
        torch.cuda.synchronize(device)
        peak = torch.cuda.max_memory_allocated(device)
        found["peak_allocated_mib"] = peak / MIB
        found["peak_reserved_mib"] = torch.cuda.max_memory_reserved(device) / MIB
        found["activations_mib"] = max(0.0, (peak - weights - cache_bytes) / MIB)
        used = _nvml_used(device)
        found["nvml_used_mib"] = None if used is None else used / MIB
        found["nvml_before_mib"] = None if nvml_before is None else nvml_before / MIB
    peak_rss = peak_rss_bytes()
    found["peak_rss_mib"] = peak_rss / MIB
    found["rss_before_load_mib"] = before / MIB
    return found


def run_workload(model: Any, batch: int, prompt_tokens: int, reply_tokens: int) -> int:
    """Prefill a random prompt and decode step by step with the model's cache; return the cache's bytes at the end.

    Only the last position's logits are asked for, as in generation. Peak memory does not depend on which tokens.
    """
    import torch

    text = model.config.get_text_config()
    limit = int(getattr(text, "max_position_embeddings", prompt_tokens + reply_tokens))
    prompt_tokens = max(1, min(prompt_tokens, limit - reply_tokens))
    device = model.get_input_embeddings().weight.device
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, int(text.vocab_size), (batch, prompt_tokens), generator=generator).to(device)
    cache = None
    for _ in range(reply_tokens):
        output = model(input_ids=tokens, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache = output.past_key_values
        tokens = output.logits[:, -1:].argmax(-1)
    return _cache_bytes(cache)


def _cache_bytes(cache: Any) -> int:
    total = 0
    for layer in getattr(cache, "layers", ()):
        for name in ("keys", "values"):
            tensor = getattr(layer, name, None)
            if tensor is not None:
                total += int(tensor.numel() * tensor.element_size())
    return total


def _nvml_used(device: str) -> int | None:
    """Bytes that NVML says this process holds on the card, or None where it cannot tell processes apart."""
    import os

    import pynvml

    from harness.engine.machine_state import _physical_index

    pynvml.nvmlInit()
    try:
        handle = pynvml.nvmlDeviceGetHandleByIndex(_physical_index(int(device.partition(":")[2] or 0)))
        processes = pynvml.nvmlDeviceGetComputeRunningProcesses(handle)
        own = [process.usedGpuMemory for process in processes if process.pid == os.getpid()]
        return int(own[0]) if own and own[0] else None
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()


def main() -> int:
    """Answer one question; what goes wrong is said in the answer, so that the parent can report it."""
    from harness.errors import HarnessError

    question = json.load(sys.stdin)
    try:
        answer = measure(question)
    except HarnessError as error:
        answer = {"error": str(error)}
    except RuntimeError as error:
        answer = {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
    print("\n" + json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
