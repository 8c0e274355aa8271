"""The device of a run: which one, how much memory is free, and how to recognise that it ran out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.errors import InputError

if TYPE_CHECKING:
    import torch

NO_MEMORY = "out of memory, even alone in its batch"  # the error in the dialogue's record
CPU_SHARE = 0.6  # of the memory available now; other programs need some too
CUDA_SHARE = 0.9
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "cudaErrorMemoryAllocation")


def resolve_device(wanted: str) -> str:
    """Return ``cpu`` or ``cuda:N`` for a config's ``device``; raise InputError if that device does not exist."""
    if wanted == "cpu":  # known without importing torch
        return "cpu"
    import torch

    if wanted == "auto" and not torch.cuda.is_available():
        return "cpu"
    if not torch.cuda.is_available():
        raise InputError(f"device: {wanted} was requested, but torch sees no CUDA device. Use device: cpu or auto.")
    if wanted in ("auto", "cuda"):
        return f"cuda:{torch.cuda.current_device()}"
    index = int(wanted.partition(":")[2])
    if index >= torch.cuda.device_count():
        raise InputError(f"device: {wanted} was requested, but torch sees only {torch.cuda.device_count()}.")
    return wanted


def free_bytes(device: str) -> int:
    """Return how many bytes may still be allocated on ``device``, less a margin for other programs."""
    import torch

    if device.startswith("cuda"):
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((free + cached) * CUDA_SHARE)
    import psutil

    return int(psutil.virtual_memory().available * CPU_SHARE)


def total_bytes(device: str) -> int:
    """Return how much memory ``device`` has in total."""
    import torch

    if device.startswith("cuda"):
        return int(torch.cuda.get_device_properties(device).total_memory)
    import psutil

    return int(psutil.virtual_memory().total)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error means that memory ran out, which torch reports in several ways.

    If memory runs out during a CUDA graph capture, ending the capture fails too and hides the original error.
    """
    import torch

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error)
    if isinstance(error, RuntimeError) and any(words in text for words in OUT_OF_MEMORY):
        return True
    during = error.__context__
    return during is not None and "capture" in text and is_out_of_memory(during)


def release_cached_memory(device: str) -> None:
    """Return memory that torch caches for reuse to the device."""
    import gc

    import torch

    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


def synchronize(device: str) -> None:
    """Wait until the device has finished all queued work."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def torch_dtype(name: str) -> torch.dtype | str:
    """Return torch's dtype for a variant's ``dtype``; ``auto`` is passed on to transformers as it is."""
    import torch

    return name if name == "auto" else getattr(torch, name)
