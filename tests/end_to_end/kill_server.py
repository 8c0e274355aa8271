"""Runs a job again and again in forked children and kills each after a given time; the last one may finish.

The libraries are imported once, before forking, so that dozens of kills take seconds:
``python -m tests.end_to_end.kill_server CONFIG.json OUT DELAY DELAY ...``. Prints how many children were killed.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path

IMPORTED = (
    "torch", "transformers.models.llama.modeling_llama", "peft", "bitsandbytes", "harness.passes.scoring",
    "harness.passes.generation", "harness.backends.local.backend",
    "harness.results.summarize", "harness.results.replies_scored",
    "reports.render",
)  # fmt: skip


def main() -> int:
    config, out, *delays = sys.argv[1:]
    settings = json.loads(Path(config).read_text())
    for name in IMPORTED:
        importlib.import_module(name)
    killed = 0
    for delay in [*map(float, delays), None]:
        child = os.fork()
        if child == 0:
            job(settings, out)
        if delay is None:
            _, status = os.waitpid(child, 0)
            print(json.dumps({"killed": killed, "last": os.waitstatus_to_exitcode(status)}))
            return 0
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        killed += os.WIFSIGNALED(status)
    return 1


def job(settings: dict[str, object], out: str) -> None:
    """Do the whole job in this child and leave without running the parent's exit handlers."""
    from harness.jobs.run import run

    try:
        run(settings, out)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
