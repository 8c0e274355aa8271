"""Runs a job in forked children and kills each at one of its file events; the same job must then end as if undisturbed.

A file event is what Python does to a file below the job's folder, such as opening it for writing or renaming it.
``python -m tests.end_to_end.kill_at_events JOB.json KILLS`` imports the libraries once, before forking, so that a kill
costs what the job costs. Prints the number of events, how many children were killed, and every difference.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.files import digest_file

IMPORTED = {
    "run": ("torch", "transformers.models.llama.modeling_llama", "peft", "harness.backends.local.backend",
            "harness.results.replies_scored", "reports.render"),
    "finetune": ("torch", "transformers.models.llama.modeling_llama", "peft", "trl", "finetune.pipeline"),
    "report": ("reports.render",),
}  # fmt: skip
CHANGING = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.chmod"}
# What says when it was made, or how long it took, differs from one run to the next.
TIMED = {"run.json", "report.html", "summary.md", "training_log.jsonl", "finetune.json", "variants.json", "merge.json"}


def main() -> int:
    """Do the job undisturbed; then once for each event chosen, killed there and done again."""
    job = json.loads(Path(sys.argv[1]).read_text())
    kills = int(sys.argv[2])
    for name in IMPORTED[job["job"]]:
        importlib.import_module(name)
    root = Path(job["folder"])
    total = _in_child(job, root / "undisturbed", kill_at=None)
    if total < 0:
        return 1
    wanted = results(root / "undisturbed")
    events = sorted(random.Random(5).sample(range(1, total + 1), min(kills, total)))
    killed, differences = 0, []
    for event in events:
        out = root / f"killed-{event}"
        killed += _in_child(job, out, kill_at=event) == -signal.SIGKILL
        if _in_child(job, out, kill_at=None) < 0:
            differences.append(f"killed at event {event}, the job could not be finished")
        else:
            found = results(out)
            changed = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
            differences += [f"killed at event {event}, {name} differs" for name in changed]
        shutil.rmtree(out, ignore_errors=True)
    print(json.dumps({"events": total, "killed": killed, "differences": differences}))
    return 0


def results(out: Path) -> dict[str, str]:
    """Return the digest of every file that must not depend on when the job was killed, and the names of the others."""
    files = [path for path in sorted(out.rglob("*")) if path.is_file() and path.suffix != ".lock"]
    return {str(path.relative_to(out)): "" if path.name in TIMED else digest_file(path) for path in files}


def _in_child(job: dict[str, Any], out: Path, *, kill_at: int | None) -> int:
    """Do the job in a child; return how many file events it had, or the negative number of the signal or exit code."""
    reader, writer = os.pipe()
    if "run" in job and not out.exists():  # what the page is rendered from
        shutil.copytree(job["run"], out)
    child = os.fork()
    if child == 0:
        count = _watch(out, kill_at)
        code = 1
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                JOBS[job["job"]](job, out)
            code = 0
        except BaseException as error:
            print(repr(error), file=sys.stderr)
        os.write(writer, str(count()).encode())
        os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        counted = pipe.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return int(counted) if code == 0 else -abs(code)


def _watch(folder: Path, kill_at: int | None) -> Callable[[], int]:
    """Count the file events below ``folder`` from now on; kill this process before the one numbered ``kill_at``."""
    below = str(folder)
    seen = 0

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open":
            path, _, flags = arguments
            if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                return
        elif event in CHANGING:
            path = arguments[0]
        else:
            return
        if isinstance(path, str | os.PathLike) and str(path).startswith(below):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)
    return lambda: seen


def _run(job: dict[str, Any], out: Path) -> None:
    from harness.jobs.run import run

    run(job["config"], out)


def _finetune(job: dict[str, Any], out: Path) -> None:
    from finetune.pipeline import run

    run(job["recipe"], out)


def _report(job: dict[str, Any], out: Path) -> None:
    from harness.cli.app import main

    if main(["report", str(out)]) != 0:
        raise RuntimeError("the page was not rendered")


JOBS: dict[str, Callable[[dict[str, Any], Path], None]] = {
    "run": _run,
    "finetune": _finetune,
    "report": _report,
}

if __name__ == "__main__":
    sys.exit(main())
