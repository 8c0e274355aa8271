"""``harness run`` with clocks around its stages, to see where the time of the whole command goes.

    python -m benchmarks.peers.staged_run STAGES.json CONFIG --out RUN

It is the same command in one process, with some functions wrapped; timed runs are those of the plain command. Each
stage's seconds are its own: what an inner stage takes (loading weights within a pass) is not counted twice. What other
threads and processes do meanwhile shows only where the main thread waits for it.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from harness.machine import leave

# Where a stage begins: module, attribute, stage. One that a later version no longer has is named in the result.
BEFORE_IMPORTS = (
    ("harness.jobs.prepare", "held_out", "data"),
    ("harness.jobs.prepare", "resolve_device", "imports and CUDA"),
    ("harness.jobs.runner", "import_libraries", "imports and CUDA"),
    ("harness.jobs.prepare", "weights_digests", "digests"),
    ("harness.jobs.prepare", "settings_digests", "digests"),
    ("harness.jobs.runner", "compute", "metrics and intervals"),
    ("harness.jobs.run", "render", "page"),
)
# In modules that import torch: wrapped once the command has imported it, or nothing would overlap with that import.
AFTER_IMPORTS = (
    ("harness.backends.local.backend", "LocalBackends.check", "checks"),
    ("harness.backends.local.backend", "LocalBackends.__init__", "opening the backend"),
    ("harness.backends.local.backend", "LocalBackend.weight_errors", "weight errors of the merge"),
    ("harness.backends.local.pool", "SharedPool._load", "loading"),
    ("harness.backends.local.pool", "SharedPool._ready", "loading"),
)
START, REST = "interpreter", "everything else"


class Stages:
    """Seconds by stage, in the main thread."""

    def __init__(self, began: float) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.missing: list[str] = []
        self._began = self._mark = began
        self._open: list[str] = [START]

    def enter(self, stage: str) -> None:
        self._charge()
        self._open.append(stage)

    def leave(self) -> None:
        self._charge()
        self._open.pop()

    def started(self) -> None:
        """What comes from now on outside of every stage is no longer the start."""
        self._charge()
        self._open[0] = REST

    def clock(self, work: Callable[..., Any], stage: str | Callable[..., str]) -> Callable[..., Any]:
        @functools.wraps(work)
        def timed(*arguments: Any, **named: Any) -> Any:
            if threading.current_thread() is not threading.main_thread():
                return work(*arguments, **named)
            self.enter(stage if isinstance(stage, str) else stage(*arguments))
            try:
                return work(*arguments, **named)
            finally:
                self.leave()

        return timed

    def summary(self) -> dict[str, Any]:
        self._charge()
        return {"seconds": dict(self.seconds), "total": self._mark - self._began, "not_clocked": self.missing}

    def _charge(self) -> None:
        now = time.time()
        self.seconds[self._open[-1]] += now - self._mark
        self._mark = now


def process_started() -> float:
    """Return when this process began, in seconds since the epoch (Linux)."""
    fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    uptime = float(Path("/proc/uptime").read_text(encoding="ascii").split()[0])
    return time.time() - (uptime - int(fields[19]) / os.sysconf("SC_CLK_TCK"))


def wrap(stages: Stages) -> None:
    """Put clocks around the stages of a run."""
    _wrap(stages, BEFORE_IMPORTS)
    runner: Any = importlib.import_module("harness.jobs.runner")
    import_libraries = runner.import_libraries

    def imported(*arguments: Any) -> None:
        import_libraries(*arguments)
        _wrap(stages, AFTER_IMPORTS)

    runner.import_libraries = imported
    prepare: Any = importlib.import_module("harness.jobs.prepare")
    prepare.weights_read_meanwhile = waiting(stages, prepare.weights_read_meanwhile)
    from harness.passes.base import Pass

    measure: Any = Pass.measure
    untyped: Any = Pass
    untyped.measure = stages.clock(measure, lambda one, *rest: f"pass: {one.name}")


def waiting(stages: Stages, meanwhile: Callable[..., Any]) -> Callable[..., Any]:
    """Clock what is left of a context manager's work when its block has ended."""

    @contextmanager
    def timed(*arguments: Any) -> Iterator[None]:
        with ExitStack() as ended:
            ended.enter_context(meanwhile(*arguments))
            yield
            stages.enter("digests")
        stages.leave()

    return timed


def _wrap(stages: Stages, clocked: Iterable[tuple[str, str, str]]) -> None:
    for module, attribute, stage in clocked:
        owner: Any = importlib.import_module(module)
        *path, name = attribute.split(".")
        try:
            for part in path:
                owner = getattr(owner, part)
            setattr(owner, name, stages.clock(getattr(owner, name), stage))
        except AttributeError:
            stages.missing.append(f"{module}.{attribute}")


def main() -> int:
    """Run the command line given, write the stages, and return its exit code."""
    stages = Stages(process_started())
    # Each process that a launcher started writes its own.
    target = Path(sys.argv[1] + (f".{os.environ['RANK']}" if "RANK" in os.environ else ""))
    from harness.cli.app import main as command

    wrap(stages)
    stages.started()
    code = command(["run", *sys.argv[2:]])
    target.write_text(json.dumps(stages.summary(), indent=1) + "\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    leave(main())
