"""A finished run to export: the golden one, copied, so that what is written beside it stays out of the project."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.store.folder import RunFolder

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    shutil.copytree(GOLDEN, tmp_path / "golden")
    return RunFolder(tmp_path / "golden")


@pytest.fixture
def texts(run: RunFolder) -> list[str]:
    """Every prompt, reference and reply of the run that is long enough not to occur by chance."""
    rows = run.dialogues()
    found = [text for row in rows for text in (row.prompt, row.reference) if text]
    for variant in run.read_manifest().variants:
        found += [row.reply for row in run.replies(str(variant["name"])) if row.reply]
    return [text.strip()[:40] for text in found if len(text.strip()) >= 40]
