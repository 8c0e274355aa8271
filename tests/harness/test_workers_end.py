"""No process outlives the command that started it, whatever ends that command."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).resolve().parents[2]
STARTS = """
import os, subprocess, sys
command = [sys.executable, "-m", {worker!r}, str(os.getpid())]
print(subprocess.Popen(command).pid, flush=True)
import time
time.sleep(600)
"""


@pytest.mark.parametrize("worker", ["harness.metrics.workers", "harness.backends.local.memory_worker"])
def test_a_worker_ends_with_a_parent_that_was_killed(worker: str) -> None:
    reading, writing = os.pipe()  # stays open, so that the worker cannot end for want of input
    parent = subprocess.Popen(
        [sys.executable, "-c", STARTS.format(worker=worker)], stdin=reading, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    try:
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        until = time.monotonic() + 60
        while running(child) and time.monotonic() < until:
            time.sleep(0.05)
        assert not running(child)
    finally:
        os.close(reading)
        os.close(writing)
        if running(child):
            child.kill()


def running(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
