"""The embedded base model: a small Llama shipped with the project, so that trying it needs no download.

``pretrain`` makes it; ``python -m finetune.tiny`` makes it again.
"""

from __future__ import annotations

import shutil
from importlib import resources
from pathlib import Path

from finetune.tiny.pretrain import RECORD, SMALLEST, TinyBase, TinySize, build_tiny_base, read_record
from harness.files import digest_file

__all__ = ["RECORD", "SMALLEST", "TinyBase", "TinySize", "build_tiny_base", "place_tiny_base", "shipped_base"]


def shipped_base() -> Path:
    """Return the folder of the shipped base."""
    return Path(str(resources.files("finetune.tiny") / "base"))


def place_tiny_base(out: Path) -> TinyBase:
    """Copy the shipped base to the folder ``out``, except identical files, and return its record."""
    out.mkdir(parents=True, exist_ok=True)
    for file in sorted(shipped_base().iterdir()):
        target = out / file.name
        if target.is_file() and digest_file(target) == digest_file(file):
            continue
        partial = target.with_name(f".{target.name}.partial")
        shutil.copyfile(file, partial)
        partial.replace(target)
    return read_record(out)
