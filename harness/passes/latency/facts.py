"""``latency.json``: what the latency pass learns besides stamps. It is kept when an interrupted run is resumed.

``limits`` and ``variants.NAME.footprint`` give the rooflines; ``machine`` has the machine's state before and after each
session; ``warm_up`` has the seconds spent on warming up and, of these, on capture; ``spent`` has those of the time
budget, by the variants timed together; ``precision`` is what was reached within it (``results/precision``).
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from harness.backends.base import Capability
from harness.files import write_json
from harness.passes.base import PassContext
from harness.passes.latency.units import Stage
from harness.results.roofline import Roofline
from harness.store.folder import RunFolder

FILE = "latency.json"
CONTEXTS = (1024, 4096)


def read_facts(folder: RunFolder) -> dict[str, Any]:
    """Return the facts so far (empty if the pass is new or the file cannot be read)."""
    empty: dict[str, Any] = {"schema": 1, "limits": None, "variants": {}, "machine": [], "warm_up": {}}
    try:
        known = json.loads((folder.root / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return empty
    usable = isinstance(known, dict) and all(
        value is None or isinstance(known.get(key, value), type(value)) for key, value in empty.items()
    )
    return {**empty, **known} if usable else empty


def write_facts(folder: RunFolder, facts: dict[str, Any]) -> None:
    write_json(folder.root / FILE, facts)


def find_rooflines(context: PassContext, fixed: Stage | None) -> dict[str, Any]:
    """Return the machine's ``limits``, and ``variants`` with the bytes of each whose backend reports them.

    ``fixed`` is the batch-1 workload; the floor of one step is computed at its typical context.
    """
    middle = 0.0 if fixed is None else sum(u.longest + u.reply_tokens / 2 for u in fixed.units) / len(fixed.units)
    found: dict[str, Any] = {"limits": None, "variants": {}}
    for variant in context.variants:
        backend = context.backends.of(variant)
        if Capability.ROOFLINE not in backend.capabilities:
            continue
        hardware = backend.hardware()
        sizes, memory = hardware.footprint, hardware.memory_bytes
        found |= {"limits": asdict(hardware.limits), "device_memory_bytes": memory}
        found["variants"][variant.name] = {
            "floor_ms": Roofline(hardware.limits, sizes).floor_ms(1, middle),
            "floor_context": middle,
            "weights_bytes": sizes.weights,
            "streamed_bytes": sizes.streamed,
            "adapter_bytes": sizes.adapter,
            "kv_bytes_per_token": sizes.kv_per_token or None,
            "largest_batch": {str(length): sizes.rows_that_fit(memory, length) for length in CONTEXTS},
            "footprint": asdict(sizes),
        }
    return found


def publish(context: PassContext, facts: dict[str, Any]) -> None:
    """Add the facts to the run's provenance, where report and tables find them."""
    limits = facts["limits"]
    if limits:
        shown = {
            "bandwidth_gb_s": limits["bandwidth_bytes_s"] / 1e9,
            "matmul_tflops": limits["matmul_flops_s"] / 1e12,
            "limits_dtype": limits["dtype"],
        }
        every = {"limits": limits, **shown}
        context.fact("roofline", {name: {**every, **one} for name, one in facts["variants"].items()})
    if facts["machine"]:
        context.fact("machine_state", facts["machine"][-1])
    context.fact("latency_warm_up", facts["warm_up"])
    if facts.get("precision"):
        context.fact("latency_precision", facts["precision"])
