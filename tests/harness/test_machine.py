"""What makes timings doubtful is said; a quiet machine is not accused."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import pynvml
import pytest

from harness.machine import busy_warnings, gpu_state, machine_state, others, physical_index

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
        "The GPU was throttled after timing (power cap).",
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


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """NVML with two cards, of which the second is split: MIG-5 is a part of it."""

    def unknown(*arguments: Any) -> Any:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_FOUND)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: f"card {index}" if index < 2 else unknown(),
        "nvmlDeviceGetUUID": lambda handle: {"card 0": "GPU-aa00", "card 1": "GPU-bb11"}[handle],
        "nvmlDeviceGetHandleByUUID": lambda uuid: "part" if uuid == "MIG-5" else unknown(),
        "nvmlDeviceGetDeviceHandleFromMigDeviceHandle": lambda handle: "card 1",
        "nvmlDeviceGetIndex": lambda handle: int(handle[-1]),
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)


@pytest.mark.parametrize(
    ("visible", "card"),
    [
        ("", 0), ("1", 1), ("1,0", 1), ("GPU-bb11", 1), ("GPU-b, GPU-aa00", 1), ("GPU-cc", None),
        ("MIG-5", 1), ("MIG-6", None), ("MIG-GPU-bb11/3/0", 1),
    ],
)  # fmt: skip
def test_a_card_is_found_by_number_uuid_or_instance(
    visible: str, card: int | None, two_cards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert physical_index(0) == card


@pytest.mark.parametrize("visible", ["GPU-cc", "7"])
def test_a_card_that_the_driver_does_not_know_has_no_state(
    visible: str, two_cards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_state(0) == {}


def test_leaving_writes_what_was_printed_and_calls_what_was_registered_for_the_end() -> None:
    code = "import atexit; from harness.machine import leave; atexit.register(print, 'last'); print('first'); leave(3)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "first\nlast\n", "")


def test_leaving_with_a_closed_pipe_ends_as_the_interpreter_ends_it() -> None:
    endings = []
    for last in ("sys.exit(0)", "leave(0)"):
        code = f"import sys; from harness.machine import leave; sys.stdin.read(); print('unread'); {last}"
        process = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
        )
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        endings.append((process.communicate()[1], process.returncode))
    assert endings[0] == endings[1]
    assert endings[0][1] == 120
