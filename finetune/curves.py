"""Training curves, saved as JSON lines, and training progress."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from harness.files import refuse_deleted, write_text_atomically
from harness.progress import Progress
from harness.variants.resolve import read_curves

_KEPT = ("loss", "learning_rate", "grad_norm", "eval_loss", "mean_token_accuracy", "eval_mean_token_accuracy")
_SHOWN = {"loss": "loss", "eval_loss": "held-out loss"}
_TASK = "training"


class TrainingLog(TrainerCallback):
    """Appends a line for every log of the trainer (step, epoch and the values in ``_KEPT``) and shows every step."""

    def __init__(self, path: Path, progress: Progress) -> None:
        self._path = path
        self._progress = progress
        self._shown = 0
        self._latest: dict[str, float] = {}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Drop the lines of steps that a resumed training repeats."""
        done = [row for row in read_curves(self._path) if row["step"] <= state.global_step] if state.global_step else []
        write_text_atomically(self._path, "".join(json.dumps(row) + "\n" for row in done))
        self._progress.start(_TASK, state.max_steps, "steps")
        self._show(state)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        found = {key: value for key in _KEPT if isinstance(value := (logs or {}).get(key), int | float)}
        self._latest |= found
        finite = {key: value for key, value in found.items() if math.isfinite(value)}
        if finite:
            row = {"step": state.global_step, "epoch": round(state.epoch or 0.0, 4), **finite}
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
        self._show(state)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        refuse_deleted(self._path)  # before a checkpoint is saved there
        self._show(state)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._progress.finish(_TASK)

    def _show(self, state: TrainerState) -> None:
        values = [f"{word} {self._latest[key]:.3f}" for key, word in _SHOWN.items() if key in self._latest]
        self._progress.advance(_TASK, state.global_step - self._shown, detail=", ".join(values))
        self._shown = state.global_step
