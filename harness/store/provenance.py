"""Where a number comes from: versions, hardware, git commit, seeds and command."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness.machine import ask, cpu_name, library_versions, nvml

PACKAGES = (
    "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "trl", "evaluate", "tokenizers",
    "safetensors", "numpy", "scipy", "pandas", "sacrebleu", "rouge-score", "jinja2", "pydantic",
)  # fmt: skip


def now() -> str:
    """Return the current UTC time, to the second, as ISO 8601."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def versions() -> dict[str, str]:
    """Return the versions of Python, this project and each library that a number may depend on."""
    return {"python": platform.python_version(), **library_versions(("medical-dialogue-harness", *PACKAGES))}


def hardware() -> dict[str, Any]:
    """Return the processor, its cores, the memory and, if NVML is available, the GPUs."""
    import psutil

    facts: dict[str, Any] = {
        "cpu": cpu_name(),
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count(),
        "threads": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    gpus = gpu_facts()
    if gpus:
        facts["gpu"] = gpus[0]["name"]
        facts["gpus"] = gpus
    return facts


def gpu_facts() -> list[dict[str, Any]]:
    """Return the name, memory and driver of each NVIDIA GPU, as far as NVML reports them; empty without a GPU."""
    with nvml() as answers:
        if not answers:
            return []
        import pynvml

        driver = ask(pynvml.nvmlSystemGetDriverVersion)
        count = ask(pynvml.nvmlDeviceGetCount) or 0
        return [_gpu(ask(pynvml.nvmlDeviceGetHandleByIndex, index), driver) for index in range(count)]


def _gpu(handle: Any, driver: Any) -> dict[str, Any]:
    import pynvml

    name = None if handle is None else ask(pynvml.nvmlDeviceGetName, handle)
    memory = None if handle is None else ask(pynvml.nvmlDeviceGetMemoryInfo, handle)
    facts = {
        "name": "NVIDIA GPU" if name is None else _text(name),
        "memory_gib": None if memory is None else round(int(memory.total) / 2**30, 1),
        "driver": None if driver is None else _text(driver),
    }
    return {key: fact for key, fact in facts.items() if fact is not None}


def git_state() -> dict[str, Any]:
    """Return the commit of the checkout this code runs from and whether it is dirty; empty outside a checkout."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return {}
    try:
        status = _git(root, "status", "--porcelain", "--untracked-files=no")
        return {"commit": _git(root, "rev-parse", "HEAD"), "dirty": bool(status)}
    except (OSError, subprocess.SubprocessError):
        return {}


def provenance(seed: int) -> dict[str, Any]:
    """Return everything about this process that a number may depend on."""
    return {
        "date": now(),
        "command": _command(),
        "versions": versions(),
        "hardware": hardware(),
        "git": git_state(),
        "seeds": {"run": seed, "bootstrap": seed},
    }


def _command() -> str:
    """Return the command line as a user would type it, with ``python -m PACKAGE`` for a ``__main__``."""
    program = Path(sys.argv[0]) if sys.argv else Path()
    name = f"python -m {program.parent.name}" if program.name == "__main__.py" else program.name
    return " ".join([name, *map(shlex.quote, sys.argv[1:])])


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout.strip()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
