"""What a training reports of itself: loss and learning rate kept as JSON lines, and how far it is."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.files import write_text_atomically

_KEPT = ("loss", "learning_rate", "grad_norm", "eval_loss", "mean_token_accuracy", "eval_mean_token_accuracy")


class CurveWriter(TrainerCallback):
    """Appends a line for every log of the trainer: step, epoch and what of ``_KEPT`` it has."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop the lines of steps that a resumed training does again."""
        done = [row for row in read_curves(self._path) if row["step"] <= state.global_step] if state.global_step else []
        write_text_atomically(self._path, "".join(json.dumps(row) + "\n" for row in done))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        row: dict[str, Any] = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4)}
        for key in _KEPT:
            value = (logs or {}).get(key)
            if isinstance(value, int | float) and math.isfinite(value):
                row[key] = value
        if len(row) > 2:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")


Progress = Callable[[int, int, dict[str, float]], None]
"""Called with the steps done, the steps in all, and the latest of each value in ``_KEPT``."""


class ProgressCaller(TrainerCallback):
    """Says after every step how far the training is, to whoever draws it."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._latest: dict[str, float] = {}

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        self._latest |= {key: value for key, value in (logs or {}).items() if key in _KEPT}
        self._progress(state.global_step, state.max_steps, self._latest)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        self._progress(state.global_step, state.max_steps, self._latest)


def read_curves(path: Path) -> list[dict[str, Any]]:
    """Return the lines written so far; a half-written last one is passed over."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        if line.endswith("\n"):
            rows.append(json.loads(line))
    return rows
