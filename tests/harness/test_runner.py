"""A run folder is continued, left alone or refused as it should be, whatever an earlier run left there."""

from __future__ import annotations

from pathlib import Path

from harness.config import RunConfig
from harness.runner import check_belongs
from harness.store import RunFolder
from harness.variants import Variant

CONFIG = RunConfig(variants=(Variant(name="base", kind="base", model="m"),), device="cpu")


def test_a_run_killed_while_it_wrote_its_first_manifest_is_continued(tmp_path: Path) -> None:
    (tmp_path / ".lock").touch()
    (tmp_path / ".run.json.a1b2c3").write_text('{"half": ')
    check_belongs(RunFolder(tmp_path), CONFIG)
