"""A small model made here, fine-tuned and measured: the whole way in seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune.pipeline import run as finetune_run
from harness.jobs.run import run
from harness.store.folder import RunFolder
from tests.finetune.conftest import make_base, write_recipe

SMALL: dict[str, Any] = {
    "device": "cpu",
    "generation": {"max_new_tokens": 12},
    "dialogues": {"split": "all", "leakage": "warn", "too_long": "skip"},
    "latency": {
        "budget_minutes": None,
        "prompts": 3,
        "reply_tokens": 4,
        "repeats": 2,
        "batch_sizes": [1, 2],
        "prompt_lengths": [32],
    },
    "memory": {"prompt_tokens": 16, "reply_tokens": 4, "repeats": 1},
    "stats": {"resamples": 500},
    "limit": 30,
}


@pytest.fixture(scope="session")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the variants.json of a small nf4 fine-tuning."""
    root = tmp_path_factory.mktemp("small")
    finetune_run(write_recipe(root / "recipe", make_base(root / "model")), root / "made")
    return root / "made" / "variants.json"


def small_config(variants: Path, **changes: Any) -> dict[str, Any]:
    """Return a run's config over the small variants."""
    source = variants.parent.parent / "recipe" / "dialogues.jsonl"
    value = {"variants": str(variants), **SMALL, **changes}
    value["dialogues"] = {"source": str(source), **value["dialogues"]}
    return value


@pytest.fixture(scope="session")
def small_run(variants: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return a finished run of every pass."""
    return run(small_config(variants), tmp_path_factory.mktemp("run") / "run")
