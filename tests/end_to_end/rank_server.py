"""Runs a config in forked children, some of them together, and kills those that are to die after so many records.

The libraries are imported once: ``python -m tests.end_to_end.rank_server CONFIG.json ROUND ROUND …``. A round is a JSON
list of children that run at the same time, e.g. ``[{"out": "run", "shard": "0/2", "dies_after": 3}]``, or of copies to
make, ``{"copy": "run", "to": "other"}``. Prints the exit codes of every round.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from tests.end_to_end.kill_server import IMPORTED


def main() -> int:
    """Run the rounds and print how their children ended."""
    settings = json.loads(Path(sys.argv[1]).read_text())
    for name in (*IMPORTED, "harness.passes.fidelity"):
        importlib.import_module(name)
    codes = []
    for text in sys.argv[2:]:
        children = []
        for one in json.loads(text):
            if "copy" in one:
                shutil.copytree(one["copy"], one["to"])
                continue
            child = os.fork()
            if child == 0:
                job(settings, **one)
            children.append(child)
        codes.append([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
    print(json.dumps(codes))
    return 0


def job(settings: dict[str, Any], out: str, shard: str | None = None, dies_after: int | None = None) -> None:
    """Do the whole job in this child, or die in the middle of a line after so many records."""
    from harness.jobs.run import run
    from harness.store.folder import RecordWriter

    append, written = RecordWriter.append, 0

    def append_or_die(self: RecordWriter, rows: Any) -> None:
        nonlocal written
        rows = list(rows)
        if written + len(rows) > (dies_after or 0):
            append(self, rows[: (dies_after or 0) - written])
            self._file.write(b'{"id": "half a li')
            self._file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        written += len(rows)
        append(self, rows)

    if dies_after is not None:
        RecordWriter.append = append_or_die  # type: ignore[method-assign]
    try:
        run(settings, out, shard=shard)
    except BaseException as error:
        print(repr(error), file=sys.stderr)
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    sys.exit(main())
