"""TTFT and TPOT of plain ``generate`` with nothing but a clock around it: what the latency pass must agree with.

No time stamp within a reply: one call makes a single token, another the whole reply, and TPOT is the difference.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch


def time_plainly(model: Any, prompt: list[int], tokens: int, repeats: int = 5) -> tuple[float, float]:
    """Return the median milliseconds to the first token, and of each further one."""
    ids = torch.tensor([prompt], device=model.device)
    drain = torch.cuda.synchronize if ids.is_cuda else lambda: None

    def milliseconds(count: int) -> float:
        drain()
        start = time.perf_counter()
        model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, min_new_tokens=count,
                       do_sample=False, pad_token_id=0)  # fmt: skip
        drain()
        return 1e3 * (time.perf_counter() - start)

    with torch.inference_mode():
        milliseconds(tokens)  # warm-up
        first = statistics.median(milliseconds(1) for _ in range(repeats))
        whole = statistics.median(milliseconds(tokens) for _ in range(repeats))
    return first, (whole - first) / (tokens - 1)
