"""The time left, against runs that were recorded by ``record_time_left``: what they said when, and when they ended."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from harness.time_left import TimeLeft, Work, duration, seconds_a_step

RECORDED: dict[str, list[list[Any]]] = json.loads(
    (Path(__file__).parent / "recorded_runs.json").read_text(encoding="utf-8")
)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def replayed(said: list[list[Any]]) -> list[tuple[float, float | None, tuple[str, ...]]]:
    """Return after every event: the part of the time that has passed, what was forecast over what it took, unknowns."""
    clock = Clock()
    left = TimeLeft(clock)
    began, ended = next(at for at, name, *_ in said if name == "begin"), said[-1][0]
    found = []
    for at, name, given, named in said:
        clock.now = at
        getattr(left, name)(
            *(Work(**one) if name == "begin" and isinstance(one, dict) else one for one in given), **named
        )
        if began < at < ended:
            seconds = left.seconds()
            ratio = None if seconds is None else seconds / (ended - at)
            found.append(((at - began) / (ended - began), ratio, left.unknown))
    return found


@pytest.mark.parametrize("name", RECORDED)
def test_after_a_tenth_of_the_work_the_forecast_is_within_a_factor_of_one_and_a_half(name: str) -> None:
    late = [(part, ratio) for part, ratio, unknown in replayed(RECORDED[name]) if part >= 0.1 and not unknown]
    assert len(late) > 20
    # At the end, when little is left, a tenth of the whole is as good.
    wrong = [
        (part, ratio)
        for part, ratio in late
        if ratio is None or not (1 / 1.5 <= ratio <= 1.5 or abs(ratio - 1) * (1 - part) <= 0.1)
    ]
    assert not wrong


@pytest.mark.parametrize("name", RECORDED)
def test_a_forecast_is_there_from_the_first_batch_on(name: str) -> None:
    assert all(ratio is not None for part, ratio, _ in replayed(RECORDED[name])[2:])


def test_a_pass_that_nothing_is_known_of_is_named_and_left_out() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.expect("scoring", {"base": 1})
    left.expect("memory", {"base": 0})
    left.begin("scoring", "base", Work(10, read=100))
    clock.now = 5.0
    left.done(5, read=50)
    assert left.words() == "about 5 s left, without memory"
    left.over("scoring")
    left.begin("memory", "base", Work(2))
    clock.now = 15.0
    left.done()
    assert left.words() == "about 10 s left"


def test_a_variant_that_an_earlier_process_finished_takes_no_time() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.expect("scoring", {"base": 1, "adapter": 1, "merged": 1})
    left.begin("scoring", "adapter", Work(10, read=100))
    clock.now = 5.0
    left.done(5, read=50)
    assert left.seconds() == pytest.approx(5.0 + 10.0)  # the adapter's other half, and merged


def test_loading_is_not_taken_for_reading() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    left.begin("scoring", "base", Work(40, read=4000))
    for at in (20.0, 21.0, 22.0, 23.0):  # the first batch waits for 19 s of loading
        clock.now = at
        left.done(10, read=1000)
        if at == 22.0:
            assert left.seconds() == pytest.approx(1.0)


def test_short_replies_that_end_first_do_not_make_the_others_short() -> None:
    """Of 100 replies written at once, 10 ended by step 10: about a per cent of steps end one, so 100 tokens is long."""
    clock = Clock()
    left = TimeLeft(clock)
    left.begin("generation", "base", Work(100, read=1000, longest=200))
    for _ in range(100):
        left.asked(10)
    for step in range(1, 11):
        clock.now = float(step)
        left.replied(step, True, 1.0)
    # 10 of 900 written so far ended a reply, so the longest of 90 would take over 400 steps: the limit decides.
    assert left.seconds() == pytest.approx(190.0)


@pytest.mark.parametrize("seed", range(200))
def test_whatever_happens_when_the_forecast_is_a_time(seed: int) -> None:
    chance, clock = random.Random(seed), Clock()
    left = TimeLeft(clock)
    left.expect("scoring", {"a": 1, "b": 1})
    for variant in ("a", "b"):
        work = Work(chance.choice((1, 5)), chance.choice((0, 100)), chance.choice((0, 8)))
        left.begin("generation", variant, work)
        for _ in range(12):
            clock.now += chance.choice((0.0, 0.0, 0.5))  # much arrives within one tick
            event = chance.choice((left.done, left.asked, left.replied))
            given = {left.done: (1, chance.choice((0, 9))), left.asked: (chance.choice((0, 9)),)}
            event(*given.get(event, (chance.choice((0, 1, 8)), chance.random() < 0.5, chance.choice((None, 0.0, 0.1)))))
            seconds = left.seconds()
            assert seconds is None or (seconds >= 0 and math.isfinite(seconds))
            assert isinstance(left.words(), str)


def test_a_step_is_timed_by_the_median_gap() -> None:
    assert seconds_a_step([0, 10_000_000, 20_000_000, 900_000_000]) == 0.01
    assert seconds_a_step([5]) is None


@pytest.mark.parametrize(("seconds", "words"), [(44.6, "45 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")])
def test_seconds_in_words(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_a_set_that_is_to_come_takes_as_long_as_it_has_dialogues() -> None:
    clock = Clock()
    left = TimeLeft(clock)
    for name, dialogues in (("clinic", 100), ("general", 50)):
        left.turn_to(name, dialogues)
        left.expect("scoring", {"base": 1})
    left.turn_to("clinic", 100)
    left.begin("scoring", "base", Work(100, 1000))
    for _ in range(10):
        clock.now += 1.0
        left.done(10, read=100)
    assert left.seconds() == pytest.approx(5.0)  # nothing of clinic, 500 tokens of general
    left.over("scoring", ["base"])
    left.turn_to("general", 50)
    left.begin("scoring", "base", Work(50, 500))
    assert left.seconds() == pytest.approx(5.0)
    left.over("scoring", ["base"])
    assert left.seconds() is None
