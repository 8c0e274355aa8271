"""``finetune`` with a time stamp after every step: ``python -m benchmarks.stamped_training STAMPS train …``."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from finetune.checkpoints import CheckpointSeals
from finetune.cli import main as command


def stamp(self: CheckpointSeals, arguments: Any, state: Any, *rest: Any, **named: Any) -> None:
    """Note when a step is done on the device; the callback of the trainer that every training has."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()
    with Path(sys.argv[1]).open("a", encoding="ascii") as file:
        file.write(f"{time.perf_counter()}\n")


def main() -> int:
    """Run the command line that follows the file's name."""
    if os.environ.get("RANK", "0") == "0":
        untyped: Any = CheckpointSeals
        untyped.on_step_end = stamp
    return command(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(main())
