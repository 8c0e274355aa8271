"""Progress: a live display in a terminal, plain lines elsewhere, with the libraries' own output silenced."""

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

from harness.time_left import TimeLeft, duration

if TYPE_CHECKING:  # imported only to draw: a process that measures memory must not load it
    from rich.console import Console, RenderableType
    from rich.progress import TaskID

PLAIN_INTERVAL = 10.0  # seconds between plain lines


class EventKind(StrEnum):
    """What may happen during a run that a reader of the report must know; the ``kind`` of ``run.json``'s events."""

    OUT_OF_MEMORY = "out-of-memory"
    SLOW_PATH = "slow-path"
    DOES_NOT_FIT = "does-not-fit"
    NOT_COMPARABLE = "not-comparable"
    NOT_MEASURED = "not-measured"
    OWN_WEIGHTS = "own-weights"
    GENERATION_CONFIG_IGNORED = "generation-config-ignored"
    STOP_NEVER_OCCURS = "stop-never-occurs"
    LATENCY_ENGINE = "latency-engine"
    LATENCY_SEQUENTIAL = "latency-sequential"
    LATENCY_BUSY = "latency-busy"
    LATENCY_BUDGET = "latency-budget"
    SERVER_TEMPLATE = "server-template"


# Events that the terminal shows as well, filled in with their details.
SENTENCES = {
    EventKind.OWN_WEIGHTS: "'{variant}' has weights of its own: {detail}.",
    EventKind.SERVER_TEMPLATE: "'{variant}' is asked in messages: the chat template of its server makes the prompts.",
    EventKind.STOP_NEVER_OCCURS: "Warning: the stop string {stop!r} can never occur: {detail}.",
}


class Progress(Protocol):
    """What a pass reports its progress to. Python callers may pass their own."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...


class SilentProgress:
    """Shows nothing: the default of the Python interface."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...


@dataclass
class _Task:
    total: int
    unit: str
    started: float
    done: int = 0
    tokens: int = 0
    printed: float = 0.0

    def advance(self, done: int, tokens: int) -> None:
        self.done += done
        self.tokens += tokens

    def rate(self) -> str:
        seconds = max(time.monotonic() - self.started, 1e-9)
        return f"{self.tokens / seconds:,.0f} tokens/s" if self.tokens else ""

    def left(self) -> str:
        """Return the time left of a task whose items take equally long."""
        seconds = time.monotonic() - self.started
        return f"{duration(seconds / self.done * (self.total - self.done))} left" if self.done else ""


_ONE = {"replies": "reply", "processes": "process"}


def _counted(total: int, unit: str) -> str:
    """Return ``1 reply`` or ``3 replies``; units are plurals."""
    return f"{total} {_ONE.get(unit, unit.removesuffix('s')) if total == 1 else unit}"


class ShownProgress:
    """What both displays have: while passes run, ``time_left`` is the clock of the whole run."""

    time_left: TimeLeft | None = None

    def left(self, state: _Task) -> str:
        """Return the time left, of the whole run if its clock is known; empty before the first batch."""
        return self.time_left.words() if self.time_left else state.left()


class PlainProgress(ShownProgress):
    """A line when a task starts, one every ten seconds and one when it ends: for CI logs."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._tasks: dict[str, _Task] = {}
        self._said = False

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        self._tasks[task] = _Task(total, unit, time.monotonic(), printed=time.monotonic())
        self.note(f"{task}: {_counted(total, unit)}")

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        state = self._tasks[task]
        state.advance(done, tokens)
        left = self.left(state)
        first = bool(left and self.time_left) and not self._said  # at once: it is what a reader waits for
        if first or time.monotonic() - state.printed >= PLAIN_INTERVAL:
            self._said = self._said or first
            state.printed = time.monotonic()
            self._print_state(task, state, state.rate(), left, detail)

    def finish(self, task: str) -> None:
        state = self._tasks.pop(task, None)
        if state:
            self._print_state(task, state, f"in {duration(time.monotonic() - state.started)}", state.rate())

    def note(self, message: str) -> None:
        print(message, file=self._file, flush=True)

    def close(self) -> None:
        self._tasks.clear()

    def _print_state(self, task: str, state: _Task, *parts: str) -> None:
        counted = f"{state.done}/{_counted(state.total, state.unit)}"
        self.note(f"{task}: {', '.join(part for part in (counted, *parts) if part)}")


class TerminalProgress(ShownProgress):
    """A live line per task: items done, tokens per second, time; below them the time left of the whole run."""

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress
        from rich.table import Column
        from rich.text import Text

        class WithLeft(RichProgress):
            left = ""

            def get_renderables(self) -> Iterator[RenderableType]:
                yield from super().get_renderables()
                yield Text(self.left)

        self._progress = WithLeft(
            TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1)),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[counted]}", table_column=Column(no_wrap=True, justify="right")),
            TextColumn("{task.fields[rate]}", table_column=Column(no_wrap=True, justify="right")),
            TimeElapsedColumn(),
            console=console,
            expand=True,
        )
        self._tasks: dict[str, tuple[TaskID, _Task]] = {}
        self._progress.start()

    def start(self, task: str, total: int, unit: str = "dialogues") -> None:
        identity = self._progress.add_task(task, total=total, counted=f"0/{total}", rate="")
        self._tasks[task] = (identity, _Task(total, unit, time.monotonic()))

    def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
        identity, state = self._tasks[task]
        state.advance(done, tokens)
        counted = f"{state.done}/{state.total}"
        self._progress.update(identity, advance=done, counted=counted, rate=state.rate() or detail)
        self._progress.left = self.left(state)

    def finish(self, task: str) -> None:
        found = self._tasks.pop(task, None)
        if found:
            self._progress.stop_task(found[0])
        self._progress.left = self.time_left.words() if self.time_left else ""

    def note(self, message: str) -> None:
        self._progress.console.print(message, highlight=False, markup=False)

    def drawn(self) -> RenderableType:
        """Return what is on the screen."""
        return self._progress.get_renderable()

    def close(self) -> None:
        self._progress.stop()


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Show progress on standard error: a live display in a terminal, plain lines elsewhere."""
    from rich.console import Console

    console = Console(stderr=True)
    progress = TerminalProgress(console) if console.is_terminal else PlainProgress(sys.stderr)
    try:
        yield progress
    finally:
        progress.close()


def quiet_libraries() -> None:
    """Silence the model libraries' progress bars, advice and deprecation warnings. For commands, not on import."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # otherwise every forked worker prints a warning
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing is sent anywhere
    for name in ("bitsandbytes", "transformers", "peft", "trl", "datasets", "torch", "accelerate"):
        logging.getLogger(name).setLevel(logging.ERROR)
        warnings.filterwarnings("ignore", module=rf"{name}(\..*)?$")


def quiet_transformers() -> None:
    """Silence transformers' own progress bars and advice; separate because it imports transformers."""
    from transformers.utils import logging as untyped

    transformers_logging: Any = untyped
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


@contextmanager
def quiet_loading() -> Iterator[None]:
    """Silence the libraries while a model loads; what matters is checked and raised."""
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
