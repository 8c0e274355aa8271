"""How a training looks in the terminal: one line that moves, or a line now and then where there is no terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[int, int, dict[str, float]], None]


@contextmanager
def draw_progress() -> Iterator[Progress]:
    """Lend a function to call with the steps done, the steps in all, and the latest values."""
    with _bar() if sys.stderr.isatty() else _lines() as draw:
        yield draw


@contextmanager
def _bar() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("Training"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[values]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("training", total=None, values="")

        def draw(done: int, total: int, values: dict[str, float]) -> None:
            bars.update(task, completed=done, total=total, values=_words(values))

        yield draw


@contextmanager
def _lines(every: float = 15.0) -> Iterator[Progress]:
    last = started = time.monotonic()

    def draw(done: int, total: int, values: dict[str, float]) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= every:
            last = now
            left = (now - started) / max(done, 1) * (total - done)
            print(f"Training: step {done} of {total}, about {left:.0f} s left. {_words(values)}", file=sys.stderr)

    yield draw


def _words(values: dict[str, float]) -> str:
    words = {"loss": "loss", "eval_loss": "held-out loss"}
    return ", ".join(f"{words[key]} {values[key]:.3f}" for key in words if key in values)
