"""Killed at every single file event: the same command finishes the job, and nothing of the killed ones is left."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.gating.gate import gate
from harness.jobs.run import render
from harness.jobs.runner import run
from harness.jobs.score import score
from harness.progress import SilentProgress
from harness.store import seals
from harness.store.baselines import gate_verdict
from harness.store.folder import RunFolder
from tests.jobs.test_sets import over_sets
from tests.passes.test_registry import Opened, asked, asked_again

EVENTS = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.chmod", "os.truncate"}
FILES = {
    ".lock", "dialogues.jsonl", "memory.json", "records", "replies", "report.html", "run.json", "summary.json",
    "summary.md",
}  # fmt: skip


def killed_at(event: int, folder: Path, job: Callable[[], object]) -> bool:
    """Do the job in a forked child that ends like one killed at that file event; return whether it came so far."""
    child = os.fork()
    if child == 0:
        left = [event]

        def hook(name: str, arguments: tuple[object, ...]) -> None:
            if name in EVENTS and str(arguments[0]).startswith(str(folder)):
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)

        sys.addaudithook(hook)
        try:
            job()
        except BaseException:
            os._exit(1)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in (0, 9), f"it failed before event {event}"
    return code == 9


def finished_after_every_kill(folder: Path, job: Callable[[], object], check: Callable[[], object] = int) -> int:
    """Kill the job at its first event, continue and kill that at its second, and so on, until one run is not killed.

    ``check`` looks at the folder after every kill.
    """
    event = 0
    while killed_at(event, folder, job):
        event += 1
        check()
    return event


@pytest.mark.slow
def test_a_scoring_is_finished_by_the_same_command(tmp_path: Path) -> None:
    rows = [{"id": n, "reference": "Rest and drink.", "reply": f"Rest {n}."} for n in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def job() -> None:
        score([f"a={tmp_path / 'a.jsonl'}"], tmp_path / "out", overrides=["metrics=[rouge]", "stats.resamples=100"])

    job()  # imports everything, once
    shutil.rmtree(tmp_path / "out")
    assert finished_after_every_kill(tmp_path / "out", job) > 10
    folder = RunFolder(tmp_path / "out")
    assert folder.read_manifest().state == "complete"
    assert seals.check(folder, folder.read_manifest()) == []
    assert {path.name for path in folder.root.iterdir()} <= FILES
    assert [path.name for path in folder.root.rglob(".*")] == [".lock"]


@pytest.mark.slow
def test_a_run_is_finished_by_the_same_command_and_shows_no_verdict_on_other_numbers(tmp_path: Path) -> None:
    thresholds = tmp_path / "thresholds.yaml"
    check = "{id: a, metric: quality.rouge_l, min: 0, judge: point, min_samples: 1}"
    thresholds.write_text(f"version: 1\ncandidate: other\nchecks: [{check}]\n")
    out = tmp_path / "out"

    def job(ask: Callable[[Path], RunConfig] = lambda folder: asked(folder, "scoring", "generation")) -> None:
        render(run(ask(tmp_path / "in"), out, backends=Opened()), SilentProgress())

    job()  # imports everything, once
    shutil.rmtree(out)
    assert finished_after_every_kill(out, job) > 20
    folder = RunFolder(out)
    assert seals.check(folder, folder.read_manifest()) == []
    assert gate(out, thresholds).verdict == "pass"
    assert [path.name for path in out.rglob(".*")] == [".lock"]

    judged = seals.numbers_digest(folder)

    def no_old_verdict() -> None:
        numbers = seals.numbers_digest(folder)
        assert numbers == judged or gate_verdict(folder) == "outdated"
        for name in ("report.html", "summary.md"):
            assert not (out / name).exists() or str(numbers) in (out / name).read_text(encoding="utf-8")

    finished_after_every_kill(out, partial(job, asked_again), no_old_verdict)
    assert seals.numbers_digest(folder) != judged
    no_old_verdict()


@pytest.mark.slow
def test_a_run_over_several_sets_is_finished_by_the_same_command(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def job() -> None:
        run(over_sets(tmp_path / "in", "scoring"), out, backends=Opened())

    job()  # imports everything, once
    shutil.rmtree(out)
    assert finished_after_every_kill(out, job) > 40
    folder = RunFolder(out)
    assert seals.check(folder, folder.read_manifest()) == []
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob(".*")) == [".lock", "sets/general/.lock"]

    def again() -> None:  # the data of the second set are others
        config = over_sets(tmp_path / "in", "scoring")
        path = tmp_path / "in/general.jsonl"
        path.write_text(path.read_text().replace("It is long. ", "Yes. ", 1))
        run(config, out, backends=Opened())

    finished_after_every_kill(out, again)
    assert seals.check(folder, folder.read_manifest()) == []
    assert folder.set_folder("general").dialogues()[0].reference == "Yes."
