"""Which kernels the time goes to: one decoding step and one scoring batch under torch's profiler.

On CUDA the kernels themselves are timed, those of a replayed graph too; on the CPU torch's operators take their place.
"""

from __future__ import annotations

import os
import re
import time
from collections import defaultdict, deque
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, ScoringRequest
from harness.backends.local.batches import batches, columns_for, decoding_rows, longest_first, scoring_tokens
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.device import synchronize
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import CausalForward, negative_log_likelihoods

# The first pattern that matches decides: FlashAttention's kernels name CUTLASS's types, fused ones what they replace.
KINDS = (
    ("attention", "flash|fmha|attention|attend|_join"),
    ("matrix products", "gemm|gemv|nvjet|cutlass|cublas|splitk|triton_tem|aten::(mm|bmm|addmm|linear|matmul)$"),
    ("norms, rotary and elementwise", "triton_|norm|silu|rotat"),
    ("copies and cache", "memcpy|memset|copy|cat|index|gather|scatter|fill"),
    ("norms, rotary and elementwise", "elementwise|reduce|aten::(mul|add|sub|neg|pow|mean|rsqrt|cos|sin|sigmoid)"),
)
OTHER = "other"
LONGEST = 10
NAME_LENGTH = 100  # of a kernel in the result: templates take pages
SKIPPED_STEPS = 8  # the graph is captured and everything warm
STEPS = 8


class KernelClock:
    """Kernel times between ``start`` and ``stop``."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall_ms = 0.0
        self.kernels: defaultdict[str, float] = defaultdict(float)  # microseconds by name
        # Taking CUPTI down and up again beside CUDA graphs has crashed; torch does the same where inductor makes them.
        os.environ.setdefault("DISABLE_CUPTI_LAZY_REINIT", "1")
        os.environ.setdefault("TEARDOWN_CUPTI", "0")
        self._cuda = device.startswith("cuda")
        self._started = 0.0
        self._profile = profile(activities=[ProfilerActivity.CUDA if self._cuda else ProfilerActivity.CPU])

    def start(self) -> None:
        synchronize(self.device)
        self._profile.start()
        self._started = time.perf_counter()

    def stop(self) -> None:
        synchronize(self.device)
        self.wall_ms = 1e3 * (time.perf_counter() - self._started)
        self._profile.stop()
        for event in self._profile.key_averages():
            if not self._cuda:
                self.kernels[event.key] += event.self_cpu_time_total
            elif event.device_type == torch.autograd.DeviceType.CUDA:
                self.kernels[event.key] += event.self_device_time_total

    def summary(self, repeats: int) -> dict[str, Any]:
        """Return the milliseconds of one of ``repeats``: on the clock, in kernels, by kind, and the longest by name."""
        milliseconds = {name: spent / 1e3 / repeats for name, spent in largest_first(self.kernels)}
        kinds: defaultdict[str, float] = defaultdict(float)
        for name, spent in milliseconds.items():
            kinds[kind_of(name)] += spent
        return {
            "wall_ms": self.wall_ms / repeats,
            "kernels_ms": sum(milliseconds.values()),
            "by_kind_ms": dict(largest_first(kinds)),
            "longest_ms": [[short(name), spent] for name, spent in list(milliseconds.items())[:LONGEST]],
        }


def largest_first(times: Mapping[str, float]) -> list[tuple[str, float]]:
    return sorted(times.items(), key=lambda item: item[1], reverse=True)


def kind_of(name: str) -> str:
    """Return what kind of work a kernel (or on the CPU an operator) does, judged by its name."""
    return next((kind for kind, words in KINDS if re.search(words, name, re.IGNORECASE)), OTHER)


def short(name: str) -> str:
    """Return a kernel's name without what nearly all of them begin with, cut."""
    return re.sub(r"^void |at::native::|\(anonymous namespace\)::", "", name)[:NAME_LENGTH]


def decoding_kernels(loaded: LoadedModel, requests: list[ReplyRequest], graphs: bool) -> dict[str, Any]:
    """Return the kernel times of one decoding step at as many of these requests as fit together."""
    settings = DecodingSettings(SKIPPED_STEPS + STEPS + 2, fixed_length=True)
    columns = columns_for(requests, settings)
    rows = min(len(requests), decoding_rows(loaded.model, loaded.device, columns))
    # A graph that was captured before the profiler first ran may hide what is in it.
    begun = KernelClock(loaded.device)
    begun.start()
    begun.stop()
    clock = KernelClock(loaded.device)

    class Watched(SlotDecoder):
        def _advance(self) -> Iterator[Reply]:
            if self.profile.steps == SKIPPED_STEPS:
                clock.start()
            yield from super()._advance()
            if self.profile.steps == SKIPPED_STEPS + STEPS:
                clock.stop()

    decoder = Watched(loaded, settings, rows=rows, columns=columns, graphs=graphs, by_lengths=graphs)
    for _ in decoder.run(deque(longest_first(requests)[:rows])):
        pass
    return {"rows": rows, **clock.summary(STEPS)}


def scoring_kernels(loaded: LoadedModel, requests: list[ScoringRequest]) -> dict[str, Any]:
    """Return the kernel times of the first, largest scoring batch."""
    forward = CausalForward(loaded.model)
    batch = next(batches(longest_first(requests), scoring_tokens(loaded.model, loaded.device)))
    negative_log_likelihoods(forward, batch, loaded.device)
    clock = KernelClock(loaded.device)
    clock.start()
    negative_log_likelihoods(forward, batch, loaded.device)
    clock.stop()
    return {"rows": len(batch), "tokens": sum(len(request) for request in batch), **clock.summary(1)}
