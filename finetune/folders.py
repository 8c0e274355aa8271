"""Folders that are whole or absent, and what an adapter's own folder says of its training. No torch here."""

from __future__ import annotations

import shutil
from contextlib import AbstractContextManager
from pathlib import Path

from harness import files
from harness.errors import InputError
from harness.variants.artifacts import TOKENIZER_FILES

CURVES = "curves.jsonl"
CHAT_TEMPLATES = ("chat_template.jinja", "chat_template.json")


def locked(out: Path) -> AbstractContextManager[None]:
    """Keep a second run out of the same folder; raise InputError where one is at work there."""
    return files.locked(out / ".finetune.lock", f"Another run is writing to {out}. Wait for it, or give another --out.")


def refuse_strangers(out: Path) -> None:
    """Raise InputError where ``out`` is a file, or a folder with content that this command did not make."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write to.")
    ours = ("config.json", "adapter_config.json")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in ours):
        raise InputError(f"{out} already holds other files; give an empty or a new folder.")


def copy_tokenizer(source: Path, folder: Path, *, fallback: Path | None = None) -> None:
    """Copy the tokenizer's files byte for byte, so that all variants agree on it; libraries rewrite them on saving."""
    for root in (source, fallback):
        found = [root / name for name in (*TOKENIZER_FILES, *CHAT_TEMPLATES) if (root / name).is_file()] if root else []
        if any(file.name in {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} for file in found):
            for file in found:
                shutil.copyfile(file, folder / file.name)
            return
    raise InputError(f"{fallback or source} holds no tokenizer: there is no tokenizer.json or tokenizer.model.")
