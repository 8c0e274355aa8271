"""What this machine has and lacks, and how to fix it."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.machine import hub_is_off, library_versions
from harness.store.provenance import gpu_facts

NEEDED = ("torch", "transformers", "peft", "bitsandbytes", "trl", "datasets", "accelerate", "safetensors")


@dataclass(frozen=True)
class Finding:
    """One check; ``fix`` says what to do if it did not pass."""

    what: str
    state: Literal["ok", "warning", "missing"]
    detail: str
    fix: str = ""


def examine() -> list[Finding]:
    """Check Python, libraries, processor, memory, disk, GPU and network settings; change nothing."""
    return [
        Finding("Python", "ok", platform.python_version()),
        *_libraries(),
        _processor(),
        _memory(),
        _disk(Path.cwd()),
        *_gpus(),
        _network(),
    ]


def _libraries() -> list[Finding]:
    found = library_versions(NEEDED)
    findings = []
    for name in NEEDED:
        if name in found:
            findings.append(Finding(name, "ok", found[name]))
        else:
            fix = f"pip install {name} (score, report, compare and gate work without it)."
            findings.append(Finding(name, "missing", "not installed", fix))
    if importlib.util.find_spec("sentence_transformers") is None:
        detail = "not installed: BERTScore and embedding similarity are off"
        findings.append(Finding("sentence-transformers", "warning", detail, 'pip install ".[meaning]"'))
    return findings


def _processor() -> Finding:
    threads = os.cpu_count() or 1
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    detail = f"{threads} threads, load {busy:.1f}"
    if busy > 0.5 * threads:
        fix = "Other processes are running, which would distort latencies: stop them before timing."
        return Finding("processor", "warning", detail, fix)
    return Finding("processor", "ok", detail)


def _memory() -> Finding:
    import psutil

    free = psutil.virtual_memory().available / 2**30
    return _space("memory", free, 4, "", "The quickstart needs 4 GiB: close other programs.")


def _disk(folder: Path) -> Finding:
    free = shutil.disk_usage(folder).free / 2**30
    return _space("disk", free, 1, f" in {folder}", "The quickstart needs 1 GiB: free some space.")


def _space(what: str, free: float, needed: float, where: str, fix: str) -> Finding:
    detail = f"{free:.1f} GiB free{where}"
    return Finding(what, "warning", detail, fix) if free < needed else Finding(what, "ok", detail)


def _gpus() -> list[Finding]:
    gpus = gpu_facts()
    if not gpus:
        detail = "none found: everything runs on the CPU, and GPU memory is not measured"
        return [Finding("GPU", "warning", detail, "For a CUDA GPU, install NVIDIA's driver and a CUDA build of torch.")]
    return [Finding("GPU", "ok", _describe(gpu)) for gpu in gpus]


def _describe(gpu: dict[str, Any]) -> str:
    """Return a GPU's name, and its memory and driver if known."""
    parts = [gpu["name"]]
    parts += [f"{gpu['memory_gib']} GiB"] if "memory_gib" in gpu else []
    parts += [f"driver {gpu['driver']}"] if "driver" in gpu else []
    return ", ".join(parts)


def _network() -> Finding:
    if hub_is_off():
        return Finding("model hub", "ok", "offline mode: only local folders and the cache are used")
    return Finding("model hub", "ok", "used only for Hub IDs in a config; nothing is ever uploaded")
