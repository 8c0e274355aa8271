"""A forward as one CUDA graph: captured in a tenth of a second, replayed without kernel launch overhead.

The forward is captured uncompiled: inductor takes most of a minute for every shape and adapter state, more than a
pass over a thousand dialogues would save.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from harness.backends.local.device import is_out_of_memory
from harness.backends.local.spread import spread_over
from harness.backends.local.transformers_types import CausalLM
from harness.errors import first_line

STEPS_PER_NEW_SHAPE = 6  # a capture costs about as much as this many steps at twice the width


class KeptIndices(TorchFunctionMode):
    """Keeps lists that index tensors on the device.

    Torch copies such a list from the host each time, which no graph can hold; Falcon splits its heads with one.
    """

    def __init__(self) -> None:
        super().__init__()
        self._kept: dict[tuple[torch.device, tuple[int, ...]], torch.Tensor] = {}

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.Tensor.__getitem__:
            tensor, index = args
            parts = index if isinstance(index, tuple) else (index,)
            if any(isinstance(part, list) for part in parts):
                args = (tensor, tuple(self._on_device(part, tensor.device) for part in parts))
        return func(*args, **(kwargs or {}))

    def _on_device(self, part: Any, device: torch.device) -> Any:
        if not isinstance(part, list) or not part or any(type(place) is not int for place in part):
            return part
        key = (device, tuple(part))
        if key not in self._kept:
            self._kept[key] = torch.tensor(part, device=device)
        return self._kept[key]


class CannotCaptureError(Exception):
    """A forward cannot be captured as a graph; the message says why. It can still be run without one."""


class GraphedForward:
    """Replays ``forward(*shape)``; each shape is captured on first use, all in one pool of memory.

    The forward must be repeatable: it reads its inputs from fixed buffers and writes only what the next one overwrites.
    A graph belongs to one decoder and therefore to one variant; it is valid only for the adapter it was captured with.
    """

    def __init__(self, forward: Callable[..., torch.Tensor]) -> None:
        self._forward = forward
        self._indices = KeptIndices()
        self._graphs: dict[tuple[int, ...], tuple[Any, torch.Tensor]] = {}
        self._memory = torch.cuda.graph_pool_handle()
        # One stream for all: what a forward leaves in the allocator's cache serves only the stream it ran on.
        self._side: Any = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        self.capture_seconds = 0.0

    def __call__(self, *shape: int) -> torch.Tensor:
        """Return the forward's logits, in a buffer that the next replay of this shape overwrites.

        Raises what ``capture`` raises.
        """
        self.capture(*shape)
        graph, logits = self._graphs[shape]
        graph.replay()
        return logits

    def capture(self, *shape: int) -> torch.Tensor | None:
        """Capture a new shape and return the logits of its forward without a graph; None if it is known.

        Raises CannotCaptureError if the forward cannot be captured for any reason but a lack of memory.
        """
        if shape in self._graphs:
            return None
        started = time.perf_counter()
        try:
            # A failed capture leaves its own stream current: this context brings ours back.
            with torch.cuda.stream(torch.cuda.current_stream()), self._indices:
                plain = self._run_aside(shape)
                self._graphs[shape] = self._captured(shape)
        finally:
            self.capture_seconds += time.perf_counter() - started
        return plain

    def free(self) -> None:
        """Free all graphs and their memory."""
        self._graphs.clear()

    def steps_worth_a_capture(self, width: int) -> int:
        """Return how many steps must remain for narrowing to ``width`` rows to be worth its capture."""
        known = any(captured[0] == width for captured in self._graphs)
        return 0 if known else STEPS_PER_NEW_SHAPE

    def _run_aside(self, shape: tuple[int, ...]) -> torch.Tensor:
        """Run the forward once: libraries create handles and workspaces on first use, which no capture allows."""
        self._side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self._side):
            logits = self._forward(*shape)
        torch.cuda.current_stream().wait_stream(self._side)
        return logits

    def _captured(self, shape: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        try:
            found = self._record(shape)
            torch.cuda.synchronize()
        except Exception as error:  # models do all kinds of things that a graph cannot hold
            if is_out_of_memory(error):
                raise
            # Ending a capture that failed fails too; the error before that says what happened.
            first = error.__context__ or error
            said = first_line(first, 200).partition(". ")[0]
            raise CannotCaptureError(f"{type(first).__name__}: {said}") from None
        return found

    def _record(self, shape: tuple[int, ...]) -> tuple[Any, torch.Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._memory):
            logits = self._forward(*shape)
        return graph, logits


def why_no_graphs(model: CausalLM) -> str | None:
    """Return why a forward of ``model`` cannot be captured, or None if it can (as with bitsandbytes' 4-bit layers)."""
    if getattr(model, "is_loaded_in_8bit", False):
        return "bitsandbytes' int8 detects outliers on the host at every step, which a CUDA graph cannot capture"
    kinds = {parameter.device.type for parameter in model.parameters()}
    if kinds != {"cuda"}:
        return f"its weights are on {', '.join(sorted(kinds))}"
    return spread_over(model)
