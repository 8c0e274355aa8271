"""The device of a run: which one, how much memory is free, and how to recognise that it ran out.

A device is ``cpu``, ``cuda:N``, or ``cuda`` for all GPUs that the process sees, over which layers are then spread. To
torch, ``cuda`` is the current GPU, where a model's first layer is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from harness.errors import InputError

if TYPE_CHECKING:
    import torch

EVERY_GPU = "cuda"
NO_MEMORY = "out of memory, even alone in its batch"  # the error in the dialogue's record
CPU_SHARE = 0.6  # of the memory available now; other programs need some too
CUDA_SHARE = 0.9
OUT_OF_MEMORY = ("can't allocate memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED", "cudaErrorMemoryAllocation")


def resolve_device(wanted: str, placement: Literal["single", "auto"] = "single") -> str:
    """Return the device for a config's ``device`` and ``placement``; raise InputError if it does not exist.

    ``auto`` placement with a single GPU, or on the CPU, is the same as ``single``.
    """
    if wanted == "cpu":  # known without importing torch
        return "cpu"
    import torch

    if wanted == "auto" and not torch.cuda.is_available():
        return "cpu"
    if not torch.cuda.is_available():
        raise InputError(f"device: {wanted} was requested, but torch sees no CUDA device. Use device: cpu or auto.")
    if wanted in ("auto", "cuda"):
        return EVERY_GPU if placement == "auto" and _gpus() > 1 else f"cuda:{torch.cuda.current_device()}"
    if placement == "auto":
        raise InputError(
            f"device: {wanted} names one GPU, but placement: auto spreads layers over all. Use device: cuda, and "
            "CUDA_VISIBLE_DEVICES to choose among them."
        )
    index = int(wanted.partition(":")[2])
    if index >= torch.cuda.device_count():
        raise InputError(f"device: {wanted} was requested, but torch sees only {torch.cuda.device_count()}.")
    return wanted


def places(device: str) -> tuple[str, ...]:
    """Return the single devices that make up ``device``."""
    return tuple(f"cuda:{index}" for index in range(_gpus())) if device == EVERY_GPU else (device,)


def free_bytes(device: str) -> int:
    """Return how many bytes may still be allocated on ``device``, less a margin for other programs.

    Weights and caches are shared out evenly among several GPUs, so the fullest of them decides.
    """
    return free_on_each(device) * len(places(device))


def free_on_each(device: str) -> int:
    """Return how many bytes may still be allocated on every GPU of ``device``: for what is on one at a time."""
    import torch

    if device.startswith("cuda"):
        return min(_free_on_gpu(torch.device(place)) for place in places(device))
    import psutil

    return int(psutil.virtual_memory().available * CPU_SHARE)


def _free_on_gpu(gpu: torch.device) -> int:
    import torch

    free, _ = torch.cuda.mem_get_info(gpu)
    cached = torch.cuda.memory_reserved(gpu) - torch.cuda.memory_allocated(gpu)
    return int((free + cached) * CUDA_SHARE)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count()


def total_bytes(device: str) -> int:
    """Return how much memory ``device`` has in total."""
    import torch

    if device.startswith("cuda"):
        return sum(int(torch.cuda.get_device_properties(place).total_memory) for place in places(device))
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
        for place in places(device):
            torch.cuda.synchronize(place)


def torch_dtype(name: str) -> torch.dtype | str:
    """Return torch's dtype for a variant's ``dtype``; ``auto`` is passed on to transformers as it is."""
    import torch

    return name if name == "auto" else getattr(torch, name)
