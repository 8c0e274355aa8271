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
    import psutil

    folder = Path.cwd()
    offline = "offline mode: only local folders and the cache are used"
    return [
        Finding("Python", "ok", platform.python_version()),
        *_libraries(),
        _processor(),
        _space("memory", psutil.virtual_memory().available, 4, "", "close other programs"),
        _space("disk", shutil.disk_usage(folder).free, 1, f" in {folder}", "free some space"),
        *_gpus(),
        Finding("model hub", "ok", offline if hub_is_off() else "used only for Hub IDs in a config, never for uploads"),
    ]


def examine_servers(config: str) -> list[Finding]:
    """Ask the server of every served variant of a config what it can do; nothing of the dialogues is sent."""
    from harness.backends.choose import check_server
    from harness.errors import HarnessError
    from harness.jobs.run import read_config
    from harness.variants.resolve import resolve_variants

    chosen, folder = read_config(config)
    served = [variant for variant in resolve_variants(chosen.variants, folder).variants if variant.is_served]
    if not served:
        return [Finding("servers", "ok", f"{config} has no served variant")]
    findings = []
    for variant in served:
        what = f"server of '{variant.name}'"
        try:
            rows = check_server(variant)
        except HarnessError as error:
            findings.append(Finding(what, "missing", str(error)))
            continue
        findings += [Finding(what, "ok" if row.ok else "warning", row.detail) for row in rows]
    return findings


def _libraries() -> list[Finding]:
    found = library_versions(NEEDED)
    without = "(score, report, compare and gate work without it)."
    findings = [
        Finding(name, "ok", found[name])
        if name in found
        else Finding(name, "missing", "not installed", f"pip install 'medical-dialogue-harness[run,train]' {without}")
        for name in NEEDED
    ]
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


def _space(what: str, free: int, needed: int, where: str, advice: str) -> Finding:
    detail = f"{free / 2**30:.1f} GiB free{where}"
    if free < needed * 2**30:
        return Finding(what, "warning", detail, f"The quickstart needs {needed} GiB: {advice}.")
    return Finding(what, "ok", detail)


def _gpus() -> list[Finding]:
    gpus = gpu_facts()
    if not gpus:
        detail = "none found: everything runs on the CPU, and GPU memory is not measured"
        return [Finding("GPU", "warning", detail, "For a CUDA GPU, install NVIDIA's driver and a CUDA build of torch.")]
    return [Finding("GPU", "ok", _describe(gpu)) for gpu in gpus]


def _describe(gpu: dict[str, Any]) -> str:
    """Return a GPU's name, and its memory and driver if known."""
    memory = f", {gpu['memory_gib']} GiB" if "memory_gib" in gpu else ""
    driver = f", driver {gpu['driver']}" if "driver" in gpu else ""
    return f"{gpu['name']}{memory}{driver}"
