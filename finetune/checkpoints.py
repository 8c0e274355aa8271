"""Checkpoints of an unfinished training: sealed as they are saved, so that a damaged one is never continued from."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

from torch import distributed
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.errors import InputError
from harness.files import digest_file, read_json, write_json

SEAL = "digests.json"
_NAME = re.compile(r"checkpoint-(\d+)")


class CheckpointSeals(TrainerCallback):
    """Writes the SHA-256 of every file of a checkpoint into it, once all of them are saved, by all processes."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if distributed.is_initialized():
            distributed.barrier()
        if state.is_world_process_zero:
            seal(Path(args.output_dir or "") / f"checkpoint-{state.global_step}")


def seal(checkpoint: Path) -> None:
    """Write the digests of a checkpoint's files."""
    files = sorted(path for path in checkpoint.iterdir() if path.is_file() and path.name != SEAL)
    write_json(checkpoint / SEAL, {path.name: digest_file(path) for path in files})


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest whole checkpoint, or None; damaged and incomplete ones are removed.

    The best one so far, which the trainer loads at the end, must be whole too.
    """
    matches = filter(None, (_NAME.fullmatch(path.name) for path in folder.glob("checkpoint-*")))
    for match in sorted(matches, key=lambda match: -int(match[1])):
        path = folder / match[0]
        if _is_whole(path) and all(_is_whole(best) for best in _best_of(path)):
            return path
        shutil.rmtree(path)
    return None


def _is_whole(checkpoint: Path) -> bool:
    try:
        digests = read_json(checkpoint / SEAL)
        return bool(digests) and all(digest_file(checkpoint / name) == digest for name, digest in digests.items())
    except InputError:
        return False


def _best_of(checkpoint: Path) -> list[Path]:
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    best = state.get("best_model_checkpoint")
    return [checkpoint.with_name(Path(best).name)] if best else []
