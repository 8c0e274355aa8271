"""Start a command in several processes that train together, as ``torchrun`` does, but with nobody to end the others."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LIMIT = 240.0  # seconds; far above what any of these takes


@dataclass(frozen=True)
class Ended:
    code: int
    output: str


def launch(arguments: Sequence[str], *, world: int = 2, before: Sequence[str] = ("", "")) -> list[Ended]:
    """Return how ``python -m finetune`` ended in each process; ``before`` is what each runs first, in Python.

    Raises TimeoutExpired where a process hangs.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = []
    for rank in range(world):
        environment = {
            **os.environ,
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": str(world),
            "LOCAL_WORLD_SIZE": str(world),
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(port),
            "OMP_NUM_THREADS": "1",
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
        }
        code = f"import sys\n{before[rank]}\nfrom finetune.cli import main\nsys.exit(main(sys.argv[1:]))"
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", code, *arguments],
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    try:
        outputs = [process.communicate(timeout=LIMIT)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    return [Ended(process.returncode, output) for process, output in zip(started, outputs, strict=True)]
