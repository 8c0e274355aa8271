"""The speed limit of the hardware: pure arithmetic over measured limits and byte counts.

floor per decode step = (weight bytes read + KV bytes + adapter bytes) / measured memory bandwidth; mbu = floor / TPOT.
mfu of a prompt = its floating-point operations / (measured matrix throughput x TTFT). Embedding rows are looked up,
not streamed, so an untied embedding table is not counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

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
    """Sizes of a loaded variant. ``streamed``: bytes of the weights that one decode step reads, without adapters.

    ``parameters`` counts the weights applied to every token of a prompt: all but the embedding and the output layer.
    """

    weights: int
    streamed: int
    adapter: int
    kv_per_token: int
    parameters: int
    layers: int
    hidden: int

    def step_floor_s(self, limits: Limits, batch: int, context: float) -> float:
        """Return the minimum time of one decode step in seconds, by memory traffic alone."""
        moved = self.streamed + self.adapter + batch * context * self.kv_per_token
        return moved / limits.bandwidth_bytes_s

    def prefill_flops(self, tokens: float) -> float:
        """Return the floating-point operations of a prompt: 2 per weight and token, plus attention.

        The output layer, which runs at the last position only, and the embedding are not counted.
        """
        attention = 2 * 2 * self.layers * self.hidden * tokens * tokens / 2  # QK^T and PV, causal half
        return 2.0 * self.parameters * tokens + attention

    def rows_that_fit(self, memory_bytes: float, context: int) -> int:
        """Return the largest batch of ``context`` tokens each whose cache fits next to the weights."""
        free = memory_bytes * (1.0 - KEPT_FREE) - self.weights - self.adapter
        return max(0, int(free // (context * self.kv_per_token)))


@dataclass(frozen=True)
class Roofline:
    """One variant on one device."""

    limits: Limits
    footprint: Footprint

    def floor_ms(self, batch: int, context: float) -> float:
        """Return the minimum time of one decode step of ``batch`` rows of ``context`` tokens, in milliseconds."""
        return 1e3 * self.footprint.step_floor_s(self.limits, batch, context)

    def prefill_floor_ms(self, tokens: float) -> float:
        """Return the minimum time of a prompt in milliseconds, by arithmetic alone."""
        return 1e3 * self.footprint.prefill_flops(tokens) / self.limits.matmul_flops_s


def rooflines(provenance: Mapping[str, object]) -> dict[str, Roofline]:
    """Return the rooflines in a run's provenance by variant."""
    facts = provenance.get("roofline")
    found = {}
    for name, one in facts.items() if isinstance(facts, Mapping) else ():
        if isinstance(one, Mapping) and one.get("limits") and one.get("footprint"):
            found[str(name)] = Roofline(Limits(**one["limits"]), Footprint(**one["footprint"]))
    return found
