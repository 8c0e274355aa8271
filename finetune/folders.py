"""Folders that are whole or absent, and what an adapter's own folder says of its training. No torch here."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, InputError
from harness.variants.artifacts import ADAPTER_FACTS, read_json

CURVES = "curves.jsonl"
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
    "chat_template.jinja",
    "chat_template.json",
)


@contextmanager
def replace_folder(out: Path) -> Iterator[Path]:
    """Lend an empty folder that becomes ``out`` when the block ends well; an older ``out`` of ours is replaced then.

    Raises InputError when ``out`` holds anything that is not a model or an adapter.
    """
    refuse_strangers(out)
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"Cannot make {partial}: {error.strerror}.") from error
    try:
        yield partial
        publish(partial, out)
    except OSError as error:
        raise HarnessError(f"Cannot write {out}: {error.strerror or error}. Make room and run it again.") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Keep a second run out of the same folder; raise InputError where one is at work there."""
    from filelock import FileLock, Timeout

    try:
        out.mkdir(parents=True, exist_ok=True)
        lock = FileLock(out / ".finetune.lock", timeout=0)
        lock.acquire()
    except Timeout as error:
        raise InputError(f"Another run is writing to {out}. Wait for it, or give another --out.") from error
    except OSError as error:
        raise InputError(f"Cannot write to {out}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


def refuse_strangers(out: Path) -> None:
    """Raise InputError where ``out`` is a file, or a folder with content that this command did not make."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write to.")
    ours = ("config.json", "adapter_config.json")
    if out.is_dir() and any(out.iterdir()) and not any((out / name).is_file() for name in ours):
        raise InputError(f"{out} already holds other files; give an empty or a new folder.")


def publish(partial: Path, out: Path) -> None:
    """Move a finished folder into its place; the old one goes away only once the new one is there to take it."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    partial.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def copy_tokenizer(source: Path, folder: Path, *, fallback: Path | None = None) -> None:
    """Copy the tokenizer's files byte for byte, so that all variants agree on it; libraries rewrite them on saving."""
    for root in (source, fallback):
        found = [root / name for name in TOKENIZER_FILES if (root / name).is_file()] if root else []
        if any(file.name in {"tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt"} for file in found):
            for file in found:
                shutil.copyfile(file, folder / file.name)
            return
    raise InputError(f"{fallback or source} holds no tokenizer: there is no tokenizer.json or tokenizer.model.")


def read_adapter_facts(adapter: Path) -> dict[str, Any]:
    """Return what our training recorded beside an adapter; empty for adapters made elsewhere."""
    path = adapter / ADAPTER_FACTS
    return read_json(path) if path.is_file() else {}
