"""Where times and memory were measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.leaderboard.find import find_runs
from harness.leaderboard.machines import machines
from tests.leaderboard.made_boards import board_run

TIMES = {"base": [10.0] * 8}


def marks(root: Path) -> dict[str, tuple[str, str]]:
    return {run.name: (one.mark, one.words) for run, one in machines(find_runs(root)[0]).items()}


def timed(root: Path, cpu: str, **more: Any) -> None:
    board_run(root, {"base": 0.0}, tokens_ms=TIMES, provenance={"hardware": {"cpu": cpu, "gpu": None}}, **more)


def test_on_one_machine_there_is_nothing_to_tell_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        timed(tmp_path / name, "Example CPU")
    assert marks(tmp_path) == dict.fromkeys(("a", "b"), ("", "Example CPU, all threads"))


def test_each_machine_has_a_letter(tmp_path: Path) -> None:
    for name, cpu in (("a", "Slow CPU"), ("b", "Fast CPU"), ("c", "Slow CPU")):
        timed(tmp_path / name, cpu)
    found = marks(tmp_path)
    assert [mark for mark, _ in found.values()] == ["a", "b", "a"]
    assert found["b"][1] == "Fast CPU, all threads"


def test_another_workload_on_the_same_machine_has_a_letter_of_its_own(tmp_path: Path) -> None:
    timed(tmp_path / "a", "Example CPU")
    timed(tmp_path / "b", "Example CPU", config={"latency": {"reply_tokens": 8}})
    assert marks(tmp_path)["b"] == ("b", "Example CPU, all threads with another workload")


def test_how_often_something_was_timed_makes_no_difference(tmp_path: Path) -> None:
    timed(tmp_path / "a", "Example CPU", config={"latency": {"prompts": 8}})
    timed(tmp_path / "b", "Example CPU", config={"latency": {"prompts": 80}})
    assert marks(tmp_path)["b"][0] == ""


def test_a_run_that_timed_nothing_has_no_machine(tmp_path: Path) -> None:
    board_run(tmp_path / "run", {"base": 0.0})
    assert marks(tmp_path) == {}
