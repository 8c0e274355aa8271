"""Record what runs tell their clock, for ``test_time_left``: real events with their times.

python -m tests.harness.record_time_left NAME CONFIG --out RUN
"""

from __future__ import annotations

import functools
import json
import sys
import time
from pathlib import Path
from typing import Any

RECORDED = Path(__file__).parent / "recorded_runs.json"
SAID = ("expect", "begin", "covered", "over", "done", "asked", "replied")


def main() -> int:
    """Run the command with a clock that writes down what it is told; add it to the file under its name."""
    # What else the machine does must not count: the run's clocks and stamps are of its own processor time.
    time.monotonic, time.perf_counter_ns = time.process_time, time.process_time_ns
    from harness.cli.app import main as command
    from harness.time_left import TimeLeft, Work

    said: list[list[Any]] = []
    started = time.monotonic()

    def recorded(name: str) -> Any:
        method = getattr(TimeLeft, name)

        @functools.wraps(method)
        def saying(self: TimeLeft, *given: Any, **named: Any) -> Any:
            plain = [vars(one) if isinstance(one, Work) else one for one in given]
            said.append([round(time.monotonic() - started, 4), name, plain, named])
            return method(self, *given, **named)

        return saying

    for name in SAID:
        setattr(TimeLeft, name, recorded(name))
    code = command(["run", *sys.argv[2:]])
    kept = json.loads(RECORDED.read_text(encoding="utf-8")) if RECORDED.is_file() else {}
    kept[sys.argv[1]] = said
    text = ",\n".join(f'"{name}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for name, rows in kept.items())
    RECORDED.write_text("{\n" + text + "\n}\n", encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
