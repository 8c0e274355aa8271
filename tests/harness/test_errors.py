"""A command that is stopped says so, and one that finished is not failed by its terminal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIN = {"harness": "harness.cli.app", "finetune": "finetune.cli"}
LONG = """
import sys, time, {module} as cli
def work(*_, **__):
    print("started", flush=True)
    time.sleep({seconds})
if {package!r} == "harness":
    import harness.jobs.run as job
else:
    import finetune.pipeline as job
    cli.quiet_transformers = lambda *_: None
cli.require = lambda *_: None
job.run = work
sys.exit(cli.main(["run"]))
"""


def started(package: str, seconds: float, **options: object) -> subprocess.Popen[str]:
    """Start a command that works for so long, and wait until it does."""
    code = LONG.format(package=package, module=MAIN[package], seconds=seconds)
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, **options
    )  # type: ignore[call-overload]
    assert process.stdout.readline() == "started\n"
    return process  # type: ignore[no-any-return]


def listening() -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)


@pytest.mark.parametrize("package", MAIN)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_every_signal_to_stop_ends_a_command_as_ctrl_c_does(package: str, number: int) -> None:
    process = started(package, 60, preexec_fn=listening)  # a shell's background job ignores Ctrl-C, and so do its own
    process.send_signal(number)
    _, said = process.communicate()
    assert process.returncode == 130
    assert "nterrupted" in said
    assert "Traceback" not in said


def test_a_hangup_that_nohup_ignores_stays_ignored() -> None:
    ignoring = subprocess.Popen(
        [sys.executable, "-c", LONG.format(package="harness", module=MAIN["harness"], seconds=0.5)],
        stdout=subprocess.PIPE, cwd=ROOT, text=True, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    assert ignoring.stdout is not None
    assert ignoring.stdout.readline() == "started\n"
    ignoring.send_signal(signal.SIGHUP)
    ignoring.communicate()
    assert ignoring.returncode != 130


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "cp1252"])
def test_what_a_terminal_cannot_show_does_not_fail_a_finished_job(encoding: str, tmp_path: Path) -> None:
    rows = [{"id": n, "reference": "Rest and drink.", "reply": f"Rest {n}."} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for arguments in (["score", "--replies", "a=a.jsonl", "--out", "→run", "--set", "metrics=[rouge]"], ["metrics"]):
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            capture_output=True, check=False, cwd=tmp_path,
            env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert b"?" in done.stdout or encoding == "ascii"  # for which click itself writes UTF-8


def test_an_output_that_nobody_reads_is_no_failed_gate() -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", "metrics"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert process.stderr.read() == "Error: Standard output was closed before everything was written to it.\n"
    assert process.wait() == 4
