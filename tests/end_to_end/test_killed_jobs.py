"""Real jobs, killed with SIGKILL right before something happens to a file: nothing is lost and nothing is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.conftest import small_config
from tests.finetune.conftest import make_base, write_recipe

GOLDEN = Path(__file__).parents[1] / "golden" / "run"
pytestmark = pytest.mark.slow


def killed(job: dict[str, Any], folder: Path, kills: int) -> dict[str, Any]:
    """Return what ``kill_at_events`` found for a job."""
    description = folder / "job.json"
    description.write_text(json.dumps({**job, "folder": str(folder)}))
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.kill_at_events", str(description), str(kills)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_run_killed_at_a_file_event_ends_as_if_undisturbed(variants: Path, tmp_path: Path) -> None:
    config = small_config(variants, passes=["scoring", "generation"], limit=4)
    found = killed({"job": "run", "config": config}, tmp_path, 12)
    assert found["differences"] == []
    assert found["killed"] == 12


def test_a_training_killed_at_a_file_event_ends_as_if_undisturbed(tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path / "recipe", make_base(tmp_path / "model"))
    found = killed({"job": "finetune", "recipe": str(recipe)}, tmp_path, 4)
    assert found["differences"] == []
    assert found["killed"] == 4


def test_rendering_killed_at_a_file_event_ends_as_if_undisturbed(tmp_path: Path) -> None:
    found = killed({"job": "report", "run": str(GOLDEN)}, tmp_path, 6)
    assert found["differences"] == []
    assert found["killed"] >= 3
