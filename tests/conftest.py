"""Without torch, only the tests of what needs no extra are collected."""

from __future__ import annotations

import os
from importlib.util import find_spec

import pytest

NEED_AN_EXTRA = [
    "backends",
    "cli/test_app.py",  # nearly all of it is `harness run`
    "dialogues/test_chat.py",
    "dialogues/test_leakage.py",
    "dialogues/test_load.py",
    "dialogues/test_prompts.py",
    "dialogues/test_template_limits.py",
    "dialogues/test_tokens.py",
    "end_to_end",
    "finetune",
    "harness/test_machine.py",
    "jobs/test_inputs.py",
    "jobs/test_ranks.py",
    "jobs/test_runner.py",
    "metrics/test_evaluate_modules.py",
    "passes",
    "results/test_frames.py",  # pandas
    "store/test_provenance.py",
    "variants/test_artifacts.py",
    "variants/test_digests.py",
    "variants/test_folders.py",
    "variants/test_remembered.py",
]
collect_ignore = [] if find_spec("torch") else NEED_AN_EXTRA


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Leave nothing in the cache of whoever runs the tests, and read nothing from it."""
    os.environ["HARNESS_CACHE"] = str(tmp_path_factory.mktemp("cache"))
