"""Output folders: locks, checks and tokenizer files. No torch here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness import files
from harness.errors import InputError
from harness.variants.artifacts import TOKENIZER_FILES

CURVES = "curves.jsonl"
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Lock the folder and remove what killed runs left half written; raise InputError if another run holds it."""
    busy = f"Another run is writing to {out}. Wait for it, or give another --out."
    with files.locked(out / ".finetune.lock", busy):
        files.remove_leftovers(out, *out.glob(".*.training"))
        yield


def refuse_foreign_files(out: Path) -> None:
    """Raise InputError if ``out`` is a file, or a folder with files that this command did not write."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write to.")
    ours = ("config.json", "adapter_config.json")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in ours):
        raise InputError(f"{out} already contains other files; give an empty or new folder.")


def copy_tokenizer(source: Path, folder: Path, *, fallback: Path | None = None) -> None:
    """Copy the tokenizer's files byte for byte, so that all variants share it; libraries rewrite them on saving."""
    for root in (source, fallback):
        found = [root / name for name in (*TOKENIZER_FILES, *CHAT_TEMPLATES) if (root / name).is_file()] if root else []
        if any(file.name in {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} for file in found):
            for file in found:
                shutil.copyfile(file, folder / file.name)
            return
    raise InputError(f"{fallback or source} has no tokenizer: tokenizer.json or tokenizer.model is missing.")
