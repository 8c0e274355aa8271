"""The speed limit of the hardware: pure arithmetic over measured limits and byte counts.

floor per decode step = (weight bytes read + KV bytes + adapter bytes) / measured memory bandwidth; mbu = floor / TPOT.
mfu of a prompt = its floating-point operations / (measured matrix throughput x TTFT). Embedding rows are looked up,
not streamed, so an untied embedding table is not counted. Of a mixture of experts one row reads those it is sent to;
how many a batch reads depends on the rows, so a batch has no floor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.errors import InputError, first_line

KEPT_FREE = 0.1  # share of a device's memory reserved for activations, the driver and fragmentation


@dataclass(frozen=True)
class Limits:
    """Limits measured on the machine itself: memory traffic (read + written) in bytes/s, and matrix FLOP/s."""

    device: str
    dtype: str
    bandwidth_bytes_s: float
    matmul_flops_s: float


@dataclass(frozen=True)
class Footprint:
    """Sizes of a loaded variant. ``streamed``: bytes of weights that a decode step of one row reads, without adapters.

    ``parameters`` counts the weights applied to a token of a prompt: all but the embedding, the output layer and the
    experts that the token is not sent to. The ``kv_in_window`` bytes of ``kv_per_token`` (``layers_in_window`` layers)
    are read for the last ``window`` tokens only. ``routed``: which weights a step of several rows reads depends on what
    the rows say. Not ``known``: the model reads something that was not counted, and has no floors.
    """

    weights: int
    streamed: int
    adapter: int
    kv_per_token: int
    parameters: int
    layers: int
    hidden: int
    window: int = 0
    kv_in_window: int = 0
    layers_in_window: int = 0
    routed: bool = False
    known: bool = True

    def cache_read(self, context: float) -> float:
        """Return the bytes of one row's cache that a decode step reads after ``context`` tokens."""
        everywhere = (self.kv_per_token - self.kv_in_window) * context
        return everywhere + self.kv_in_window * self._seen(context)

    def step_floor_s(self, limits: Limits, batch: int, context: float) -> float | None:
        """Return the minimum time of one decode step in seconds, by memory traffic alone; None if it is not known."""
        if not self.known or (self.routed and batch > 1):
            return None
        moved = self.streamed + self.adapter + batch * self.cache_read(context)
        return moved / limits.bandwidth_bytes_s

    def prefill_flops(self, tokens: float) -> float | None:
        """Return the floating-point operations of a prompt: 2 per weight and token, plus attention; None if not known.

        The output layer, which runs at the last position only, and the embedding are not counted.
        """
        if not self.known:
            return None
        causal = tokens * tokens / 2  # pairs of tokens
        seen = self._seen(tokens)
        in_window = seen * tokens - seen * seen / 2
        pairs = (self.layers - self.layers_in_window) * causal + self.layers_in_window * in_window
        return 2.0 * self.parameters * tokens + 2 * 2 * self.hidden * pairs  # QK^T and PV

    def rows_that_fit(self, memory_bytes: float, context: int) -> int | None:
        """Return the largest batch of ``context`` tokens each whose cache fits beside the weights; None: not known."""
        if not self.kv_per_token:
            return None
        free = memory_bytes * (1.0 - KEPT_FREE) - self.weights - self.adapter
        return max(0, int(free // (context * self.kv_per_token)))

    def _seen(self, context: float) -> float:
        return min(context, self.window) if self.window else context


@dataclass(frozen=True)
class Roofline:
    """One variant on one device."""

    limits: Limits
    footprint: Footprint

    def floor_ms(self, batch: int, context: float) -> float | None:
        """Return the minimum time of one decode step of ``batch`` rows of ``context`` tokens, in milliseconds."""
        seconds = self.footprint.step_floor_s(self.limits, batch, context)
        return None if seconds is None else 1e3 * seconds

    def prefill_floor_ms(self, tokens: float) -> float | None:
        """Return the minimum time of a prompt in milliseconds, by arithmetic alone."""
        flops = self.footprint.prefill_flops(tokens)
        return None if flops is None else 1e3 * flops / self.limits.matmul_flops_s


def rooflines(provenance: Mapping[str, object]) -> dict[str, Roofline]:
    """Return the rooflines in a run's provenance by variant."""
    facts = provenance.get("roofline")
    found = {}
    for name, one in facts.items() if isinstance(facts, Mapping) else ():
        if isinstance(one, Mapping) and one.get("limits") and one.get("footprint"):
            try:
                found[str(name)] = Roofline(Limits(**one["limits"]), Footprint(**one["footprint"]))
            except TypeError as error:
                raise InputError(f"run.json: the roofline of '{name}' is incomplete ({first_line(error)}).") from error
    return found
