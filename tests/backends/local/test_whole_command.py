"""The benchmark of the whole command: its clocks, and how it reads what the two tools wrote."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from benchmarks.peers import staged_run
from benchmarks.peers.staged_run import REST, START, Stages
from benchmarks.peers.whole_command import agreement, lm_eval_rows
from benchmarks.peers.whole_job import ADAPTER_OVER_NF4, WholeJob


def test_a_stage_does_not_count_what_is_within_another(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(staged_run.time, "time", lambda: now[0])
    stages = Stages(95.0)
    stages.started()

    def wait(seconds: float) -> None:
        now[0] += seconds

    load = stages.clock(wait, "loading")
    work = stages.clock(lambda: (wait(2.0), load(3.0), wait(1.0)), lambda: "pass")
    wait(0.5)
    work()
    assert stages.summary() == {
        "seconds": {START: 5.0, REST: 0.5, "pass": 3.0, "loading": 3.0},
        "total": 11.5,
        "not_clocked": [],
    }


def test_every_stage_that_is_clocked_exists() -> None:
    import importlib

    for module, attribute, _ in (*staged_run.BEFORE_IMPORTS, *staged_run.AFTER_IMPORTS):
        owner = importlib.import_module(module)
        for part in attribute.split("."):
            owner = getattr(owner, part)


def test_the_tools_agree_where_their_numbers_and_replies_do(tmp_path: Path) -> None:
    samples = {
        "samples_dialogue_likelihood_x.jsonl": [{"doc": {"id": "1"}, "resps": [[["-4.0", "False"]]]}],
        "samples_dialogue_replies_x.jsonl": [{"doc": {"id": "1"}, "resps": [["Rest. "]]}],
    }
    for name, rows in samples.items():
        (tmp_path / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = agreement({"base": {"1": (4.1, "Rest.")}}, {"base": lm_eval_rows(tmp_path)})
    assert found == {
        "dialogues": 1,
        "largest_relative_nll_difference": pytest.approx(0.025),
        "identical_replies": 1.0,
    }


def test_a_config_names_variants_anew(tmp_path: Path) -> None:
    held = tuple({"name": name, "kind": "base", "model": name} for name in ("base", "adapter", "merged"))
    job = WholeJob(tmp_path, held, "m", 3, 8, "cpu")
    config = json.loads(job.config(tmp_path / "c.yaml", ("memory",), ADAPTER_OVER_NF4, 2).read_text())
    assert [(one["name"], one["model"], one.get("quantization")) for one in config["variants"]] == [
        ("base", "base", None),
        ("base-nf4", "base", "nf4"),
        ("adapter", "adapter", "nf4"),
        ("merged", "merged", None),
    ]
    assert config["limit"] == 2
