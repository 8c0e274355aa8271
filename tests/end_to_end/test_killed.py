"""Killed is not lost: SIGKILL at many random points, and the end is that of a run nobody interrupted."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from harness.jobs.run import run
from harness.store.folder import RunFolder
from harness.store.schema import GenerationRecord, ScoringRecord
from tests.end_to_end.conftest import small_config

KILLS = 25


@pytest.mark.slow
def test_killed_at_random_points_it_ends_with_the_same_summary(variants: Path, tmp_path: Path) -> None:
    config = small_config(variants, passes=["scoring", "generation"], batch_tokens=4096)
    undisturbed = run(config, tmp_path / "undisturbed")
    settings = tmp_path / "config.json"
    settings.write_text(json.dumps(config))
    chance = random.Random(7)
    delays = [f"{chance.uniform(0.02, 1.5):.3f}" for _ in range(KILLS)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.kill_server", str(settings), str(tmp_path / "killed"), *delays],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["last"] == 0, done.stderr
    assert found["killed"] > 2  # the delays hit work, not only what comes after it; how often hangs on the machine
    killed = RunFolder(tmp_path / "killed")
    assert json.loads(killed.summary_path.read_text()) == json.loads(undisturbed.summary_path.read_text())
    for variant in ("base", "adapter", "merged"):
        assert killed.replies(variant) == undisturbed.replies(variant)
        for name, model in (("scoring", ScoringRecord), ("generation", GenerationRecord)):
            ids = [record.id for record in killed.records(model, name, variant)]
            assert len(ids) == len(set(ids)), "a finished dialogue was done again"
