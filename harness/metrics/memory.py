"""What a variant takes of memory, disk and loading time: names and meanings. The memory pass measures."""

from __future__ import annotations

from harness.metrics.registry import MetricSpec


def _size(name: str, label: str, sees: str, blind_to: str, signature: str) -> MetricSpec:
    return MetricSpec(
        name=f"memory.{name}",
        unit="MiB",
        higher_is_better=False,
        aggregation="value",
        signature=f"{name}|{signature}|fresh process, fixed workload|v1",
        label=label,
        scale="0 or more",
        sees=sees,
        blind_to=blind_to,
    )


SPECS: tuple[MetricSpec, ...] = (
    _size("weights_mib", "Weights", "Parameters and buffers as loaded.", "Everything that comes with use.", "sum"),
    _size("kv_cache_mib", "KV cache", "Keys and values at the workload's end.", "Longer contexts.", "shapes"),
    _size(
        "activations_mib",
        "Activations",
        "Peak allocated less weights and KV cache.",
        "Which layer needs them.",
        "difference",
    ),
    _size(
        "peak_allocated_mib",
        "Peak allocated",
        "The most that tensors held at once on the GPU: the figure to gate on.",
        "Loading, the allocator's reserve and the CUDA context. Absent on a CPU.",
        "torch max_memory_allocated",
    ),
    _size(
        "peak_reserved_mib",
        "Peak reserved",
        "The most that the allocator took from the GPU.",
        "How much of it was needed. Absent on a CPU.",
        "torch max_memory_reserved",
    ),
    _size(
        "peak_rss_mib",
        "Peak RSS",
        "The most main memory that the process held.",
        "GPU memory; on a CPU it includes the interpreter and its libraries.",
        "resident set",
    ),
    _size(
        "nvml_used_mib",
        "GPU memory of the process",
        "What the driver counts for the process, CUDA context included.",
        "What of it is in use. Absent on a CPU.",
        "NVML",
    ),
    _size("disk_mib", "On disk", "Files of the model; of an adapter, with its base.", "Sharing of a base.", "files"),
    MetricSpec(
        name="memory.load_seconds",
        unit="s",
        higher_is_better=False,
        aggregation="value",
        signature="load_seconds|fresh process|v1",
        label="Loading time",
        scale="0 or more",
        sees="From the first byte read to a model ready for its first prompt.",
        blind_to="Whether the files were in the page cache.",
    ),
)
