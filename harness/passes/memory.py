"""The memory pass: each variant in a fresh process with a fixed workload, so that none is charged for another.

On CUDA the number to gate on is the peak allocated; on the CPU it is the peak resident set, and is named so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from harness.errors import HarnessError
from harness.passes.base import FIXED_WORKLOAD, PassContext
from harness.store.folder import RecordWriter
from harness.store.schema import MemoryRecord
from harness.variants.model import Variant

TASK = "memory"
WORKER = ["-m", "harness.backends.local.memory_worker"]


def run(context: PassContext) -> None:
    """Measure every variant as often as the config says; what an earlier run measured is kept."""
    from harness.backends.local.device import resolve_device

    device = resolve_device(context.config.device)
    repeats = context.config.memory.repeats
    missing = {variant.name: _missing(context, variant, repeats) for variant in context.variants}
    total = sum(len(names) for names in missing.values())
    if not total:
        return
    context.pool.close()  # on a GPU, what this process holds is not there for the fresh ones
    context.progress.start(TASK, total, "processes")
    for variant in context.variants:
        path = context.folder.records_path("memory", variant.name)
        with RecordWriter(path) as writer:
            for name in missing[variant.name]:
                answer = measure_in_fresh_process(context, variant, device)
                key = context.key("memory", variant, FIXED_WORKLOAD)
                disk = disk_mib(variant)
                writer.append([MemoryRecord(id=name, key=key, disk_mib=disk, **answer)])
                context.progress.advance(TASK)
    context.progress.finish(TASK)


def measure_in_fresh_process(context: PassContext, variant: Variant, device: str) -> dict[str, Any]:
    """Return what ``memory_worker`` found; raise HarnessError where the process died without an answer.

    A variant that does not fit is an answer (``error``), not a failure of the run.
    """
    settings = context.config.memory
    question = {
        "variant": variant.model_dump(mode="json"),
        "device": device,
        "threads": context.config.threads,
        **settings.model_dump(mode="json", exclude={"repeats"}),
    }
    command = [sys.executable, *WORKER]
    done = subprocess.run(
        command, input=json.dumps(question), capture_output=True, text=True, check=False, env=_environment()
    )
    lines = done.stdout.strip().splitlines()
    try:
        answer = json.loads(lines[-1])
    except (IndexError, ValueError) as error:
        if done.returncode < 0:
            return {"error": f"the process was killed by signal {-done.returncode}: too little memory, most likely"}
        detail = (done.stderr.strip().splitlines() or ["no output"])[-1][:300]
        raise HarnessError(f"The memory of '{variant.name}' could not be measured: {detail}") from error
    return dict(answer)


def disk_mib(variant: Variant) -> float | None:
    """Return the size of the variant's weight files: the base's and the adapter's where it has one."""
    folders = [Path(folder) for folder in (variant.model, variant.adapter) if folder]
    sizes = [file.stat().st_size for folder in folders if folder.is_dir() for file in folder.glob("*.safetensors")]
    return sum(sizes) / 2**20 if sizes else None


def _environment() -> dict[str, str]:
    """Let the new process find this very package, wherever it was started."""
    root = str(Path(__file__).resolve().parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}


def _missing(context: PassContext, variant: Variant, repeats: int) -> list[str]:
    key = context.key("memory", variant, FIXED_WORKLOAD)
    done = {row.id for row in context.folder.records(MemoryRecord, "memory", variant.name) if row.key == key}
    return [name for name in (f"repeat-{index}" for index in range(repeats)) if name not in done]
