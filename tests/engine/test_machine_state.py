"""What makes timings doubtful is said; a quiet machine is not accused."""

from __future__ import annotations

import os

import pytest

from harness.engine.machine_state import busy_warnings, machine_state, others

QUIET = {"load_1min": 0.1, "gpu": {"other_processes": [], "throttled": []}}


def test_a_quiet_machine_gives_no_warning() -> None:
    assert busy_warnings(QUIET, QUIET) == []


def test_a_loaded_machine_is_marked_by_what_it_did_before_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    (warning,) = busy_warnings({**QUIET, "load_1min": 3.5}, QUIET)
    assert "load 3.5 on 4 threads" in warning
    assert busy_warnings(QUIET, {**QUIET, "load_1min": 3.5}) == []  # by then the load is the run's own


def test_other_processes_and_throttling_are_named_with_their_moment() -> None:
    after = {"gpu": {"other_processes": [7], "throttled": ["power cap"]}}
    warnings = busy_warnings(QUIET, after)
    assert warnings == [
        "1 other process(es) used the GPU after timing.",
        "The GPU was slowed down after timing (power cap).",
    ]


def test_this_process_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert others([os.getpid(), 7]) == [7]
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: True)
    assert others([12345]) == []  # this one, seen from outside its namespace
    monkeypatch.setattr("torch.cuda.is_initialized", lambda: False)
    assert others([12345]) == [12345]


def test_the_state_of_a_cpu_has_load_and_threads() -> None:
    state = machine_state("cpu")
    assert state["threads"] >= 1
    assert "gpu" not in state
