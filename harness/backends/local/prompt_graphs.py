"""The forward of a single prompt as a CUDA graph, so that time to first token is not the time of launching kernels.

A prompt keeps the device busy for a few milliseconds; launching its kernels one by one takes the host several times as
long, and how long differs from process to process. Each length has a graph of its own: a padded prompt would compute
more than its own tokens, and kernels differ by length.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from harness.backends.local.device import is_out_of_memory, release_cached_memory
from harness.backends.local.graphs import CannotCaptureError, GraphedForward
from harness.backends.local.scoring import CausalForward
from harness.backends.local.selfcheck import distance, tolerance
from harness.backends.local.slots import SlotCache


class PromptGraphs:
    """Replays the forward that writes one prompt into the first slot of ``cache``.

    Where it cannot be captured, or memory does not suffice, or a graph gives other logits than the forward itself,
    ``without`` is told why, once, and there are no graphs from then on.
    """

    def __init__(self, forward: CausalForward, cache: SlotCache, device: str, without: Callable[[str], None]) -> None:
        self._forward = forward
        self._cache = cache
        self._device = device
        self._without = without
        self._ids = torch.zeros((1, cache.columns), dtype=torch.long, device=device)
        self._slot = torch.zeros(1, dtype=torch.long, device=device)
        self._lengths: set[int] = set()
        self._graphs: GraphedForward | None = GraphedForward(self._run)

    def is_decided(self, length: int) -> bool:
        """Return whether it is known how prompts of this length run: by a graph, or all without."""
        return self._graphs is None or length in self._lengths

    def prepare(self, prompt: Sequence[int]) -> bool:
        """Capture the graph of this prompt's length; return whether that succeeded. The slot then holds the prompt."""
        if self._graphs is None:
            return False
        try:
            self._capture(self._graphs, prompt)
            return True
        except CannotCaptureError as error:
            reason = str(error)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            reason = "they do not fit into memory"
        # Outside the handlers, because their errors keep tensors alive.
        self.free()
        release_cached_memory(self._device)
        self._without(reason)
        return False

    def logits(self, prompt: Sequence[int]) -> torch.Tensor | None:
        """Return the logits [1, vocabulary] after the prompt, in a buffer of its length's graph; None without one."""
        if self._graphs is None or len(prompt) not in self._lengths:
            return None
        self._load(prompt)
        return self._graphs(len(prompt))

    def free(self) -> None:
        """Free all graphs and their memory; no more are captured."""
        self._lengths.clear()
        if self._graphs is not None:
            self._graphs.free()
        self._graphs = None

    def _capture(self, graphs: GraphedForward, prompt: Sequence[int]) -> None:
        self._load(prompt)
        plain = graphs.capture(len(prompt))
        if plain is not None:
            moved = distance(graphs(len(prompt)).float(), plain.float())
            if not moved <= tolerance(self._forward.model):
                raise CannotCaptureError(f"a graph changes the logits of a prompt by {moved:.2g} standard deviations")
        self._lengths.add(len(prompt))

    def _load(self, prompt: Sequence[int]) -> None:
        self._ids[:, : len(prompt)].copy_(torch.tensor([prompt], dtype=torch.long), non_blocking=True)

    def _run(self, length: int) -> torch.Tensor:
        self._cache.fill(self._slot)
        states = self._forward.states(self._ids[:, :length], past_key_values=self._cache, use_cache=True)
        return self._forward.logits(states[:, -1])
