"""How far the work is, and how long it will take, in plain lines."""

from __future__ import annotations

import io

import pytest

from harness import progress
from harness.progress import PlainProgress, TerminalProgress
from harness.time_left import TimeLeft, Work


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_the_time_left_of_the_whole_run_is_said_once_the_first_batch_is_done(clock: Clock) -> None:
    said = io.StringIO()
    shown = PlainProgress(said)
    shown.time_left = TimeLeft(clock.monotonic)
    shown.time_left.expect("scoring", {"base": 1, "merged": 1})
    shown.start("scoring base", 1000)
    shown.advance("scoring base", 900)  # on disk already: it says nothing of this process's speed
    shown.time_left.begin("scoring", "base", Work(100, read=5000))
    clock.now = 8.0
    shown.time_left.done(10, read=500)
    shown.advance("scoring base", 10, 500)
    # 500 tokens took 8 s, so the 4,500 that are left take 72, and the next variant's as long as this one's 80.
    expected = "scoring base: 910/1000 dialogues, 62 tokens/s, about 2 min 32 s left"
    assert said.getvalue().splitlines()[-1] == expected


def test_work_without_tokens_has_a_speed_too(clock: Clock) -> None:
    said = io.StringIO()
    shown = PlainProgress(said)
    shown.start("memory", 4, "processes")
    clock.now = 30.0
    shown.advance("memory")
    assert said.getvalue().splitlines()[-1] == "memory: 1/4 processes, 1 min 30 s left"


@pytest.mark.parametrize(("unit", "one"), [("replies", "reply"), ("dialogues", "dialogue"), ("processes", "process")])
def test_one_of_something_is_no_plural(clock: Clock, unit: str, one: str) -> None:
    said = io.StringIO()
    shown = PlainProgress(said)
    shown.start("metrics", 1, unit)
    shown.advance("metrics")
    shown.finish("metrics")
    assert [line.split(", ")[0] for line in said.getvalue().splitlines()] == [
        f"metrics: 1 {one}",
        f"metrics: 1/1 {one}",
    ]


def test_a_line_of_the_terminal_fits_80_columns(clock: Clock) -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=80)
    shown = TerminalProgress(console)
    shown.time_left = TimeLeft(clock.monotonic)
    shown.time_left.expect("generation", {"base": 0})
    shown.time_left.expect("memory", {"base": 0})
    shown.start("fidelity merged-dequantized against adapter", 10240)
    shown.time_left.begin("generation", "base", Work(10240, read=10240))
    clock.now = 36_000.0
    shown.time_left.done(1024, read=1024)
    shown.advance("fidelity merged-dequantized against adapter", 1024, 50_000_000)
    shown.close()
    with console.capture() as captured:
        console.print(shown.drawn())
    task, left = (line.rstrip() for line in captured.get().splitlines())
    assert task.startswith("fidelity merged-dequantized")
    assert "1024/10240 1,389 tokens/s" in task
    assert len(task) <= 80
    assert left == "about 90 h 0 min left, without memory"
