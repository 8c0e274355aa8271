"""How far the work is: a live display in a terminal, plain lines elsewhere, and no talk of libraries over it."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:  # the terminal's library is for those who draw: a process that measures memory is not to hold it
    from rich.console import Console
    from rich.progress import TaskID

PLAIN_INTERVAL = 10.0  # seconds between plain lines


class EventKind(StrEnum):
    """What may happen on the way that a reader of the report must know; the ``kind`` of ``run.json``'s events."""

    OUT_OF_MEMORY = "out-of-memory"
    SLOW_PATH = "slow-path"
    DOES_NOT_FIT = "does-not-fit"
    NOT_COMPARABLE = "not-comparable"
    NOT_MEASURED = "not-measured"
    GENERATION_CONFIG_IGNORED = "generation-config-ignored"
    LATENCY_ENGINE = "latency-engine"
    LATENCY_SEQUENTIAL = "latency-sequential"
    LATENCY_BUSY = "latency-busy"


class Progress(Protocol):
    """Where a pass says how far it is. The terminal draws it; Python callers may pass their own."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...


class SilentProgress:
    """Says nothing: the default of the Python interface."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...
    def close(self) -> None: ...


@dataclass
class _Task:
    """``worked``: of what is done, what took time in this process; see ``advance``."""

    total: int
    unit: str
    started: float
    done: int = 0
    tokens: int = 0
    worked: int = 0
    said: float = 0.0

    def advance(self, done: int, tokens: int) -> None:
        """Count what is done. In a task that counts tokens, what brings none was done earlier, or refused unread."""
        self.done += done
        self.tokens += tokens
        self.worked += done if tokens else 0

    def rate(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else ""

    def left(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        worked = self.worked if self.tokens else self.done
        if not worked:
            return "?"
        return duration(seconds / worked * (self.total - self.done))


def duration(seconds: float) -> str:
    """Return seconds as a person says them: ``45 s``, ``3 min 20 s``, ``2 h 5 min``."""
    seconds = round(seconds)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"


class PlainProgress:
    """One line at a task's start, then one every ten seconds, then one at its end: for CI logs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._tasks: dict[str, _Task] = {}

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        self._tasks[task] = _Task(total, unit, time.monotonic(), said=time.monotonic())
        self._say(f"{task}: {total} {unit}")

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        state = self._tasks[task]
        state.advance(done, tokens)
        if time.monotonic() - state.said >= PLAIN_INTERVAL:
            state.said = time.monotonic()
            self._say_parts(task, state, state.rate(), f"{state.left()} left", detail)

    def finish(self, task: str) -> None:
        state = self._tasks.pop(task, None)
        if state:
            taken = f"in {duration(time.monotonic() - state.started)}"
            self._say_parts(task, state, taken, state.rate())

    def note(self, message: str) -> None:
        self._say(message)

    def close(self) -> None:
        self._tasks.clear()

    def _say_parts(self, task: str, state: _Task, *parts: str) -> None:
        counted = f"{state.done}/{state.total} {state.unit}"
        self._say(f"{task}: {', '.join(part for part in (counted, *parts) if part)}")

    def _say(self, message: str) -> None:
        print(message, file=self._file, flush=True)


class TerminalProgress:
    """A live line a task: done, tokens per second, time left."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        self._progress = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
        )
        self._tasks: dict[str, tuple[TaskID, _Task]] = {}
        self._progress.start()

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        identity = self._progress.add_task(task, total=total, rate="")
        self._tasks[task] = (identity, _Task(total, unit, time.monotonic()))

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        identity, state = self._tasks[task]
        state.advance(done, tokens)
        self._progress.update(identity, advance=done, rate=state.rate() or detail)

    def finish(self, task: str) -> None:
        found = self._tasks.pop(task, None)
        if found:
            self._progress.stop_task(found[0])

    def note(self, message: str) -> None:
        self._progress.console.print(message, highlight=False, markup=False)

    def close(self) -> None:
        self._progress.stop()


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Lend what shows progress on standard error: a live display in a terminal, plain lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    progress = TerminalProgress(console) if console.is_terminal else PlainProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.close()


def quiet_libraries() -> None:
    """Silence progress bars, advice and deprecation warnings of the model libraries; errors are still raised.

    Called by commands before work begins, never on import.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # forked workers would be warned about at every start
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # medical text or not: nothing is sent anywhere
    for name in ("bitsandbytes", "transformers", "peft", "trl", "datasets", "torch", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\..*)?$")


def quiet_transformers() -> None:
    """Switch off transformers' own bars and advice; apart from the rest because it imports transformers."""
    from transformers.utils import logging as untyped

    transformers_logging: Any = untyped
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Keep progress bars and advice of the libraries out of the terminal; what matters is checked and raised."""
    from transformers.utils import logging as untyped

    transformers_logging: Any = untyped
    level, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    try:
        quiet_transformers()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
