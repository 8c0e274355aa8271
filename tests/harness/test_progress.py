"""How far the work is, and how long it will take, in plain lines."""

from __future__ import annotations

import io

import pytest

from harness import progress
from harness.progress import PlainProgress


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


def test_what_an_earlier_run_did_says_nothing_of_the_speed_of_this_one(clock: Clock) -> None:
    said = io.StringIO()
    shown = PlainProgress(said)
    shown.start("scoring base", 1000)
    shown.advance("scoring base", 900)  # on disk already
    clock.now = 20.0
    shown.advance("scoring base", 10, 500)
    # Ten took 20 s, so the 90 that are left take 180.
    assert said.getvalue().splitlines()[-1] == "scoring base: 910/1000 dialogues, 25 tokens/s, 3 min 0 s left"


def test_work_without_tokens_has_a_speed_too(clock: Clock) -> None:
    said = io.StringIO()
    shown = PlainProgress(said)
    shown.start("memory", 4, "processes")
    clock.now = 30.0
    shown.advance("memory")
    assert said.getvalue().splitlines()[-1] == "memory: 1/4 processes, 1 min 30 s left"
