"""trl's trainer for several processes, whose steps and held-out loss are those of one process.

accelerate deals out whole batches in turn, so that N processes see in a step what one accumulates. But where the last
batches are no multiple of N it fills up with dialogues from the beginning, which would be learned and scored twice.
Here batches are filled up with a blank row, of which nothing is learned.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset, concatenate_datasets
from torch.utils.data import Sampler
from trl.trainer.sft_trainer import SFTTrainer


class SharedTrainer(SFTTrainer):
    """Trains on a table whose last row is blank."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Sampler[int]:
        table = self.train_dataset if train_dataset is None else train_dataset
        size = self.args.per_device_train_batch_size
        return Filled(table, size, self.accelerator.num_processes, drop_last=self.args.dataloader_drop_last)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """Return the mean loss of batches, weighted by their rows, as one process computes it."""
        table = self._remove_unused_columns(self.eval_dataset, description="evaluation")
        size, ours, world = self.args.eval_batch_size, self.accelerator.process_index, self.accelerator.num_processes
        starts = list(range(0, len(table), size))
        model: Any = self.model
        model.eval()
        total = torch.zeros((), dtype=torch.float64)
        for first in range(0, len(starts), world):
            # A process without a batch of its own repeats one, because the others' forwards may wait for its own.
            counts = first + ours < len(starts)
            rows = [table[i] for i in _batch(starts[first + ours if counts else first], size, len(table))]
            loss, _, _ = self.prediction_step(model, self.data_collator(rows), prediction_loss_only=True)
            total += loss.double().cpu() * len(rows) * counts
        summed = self.accelerator.reduce(total.float().to(self.args.device), "sum")
        metrics = {f"{metric_key_prefix}_loss": float(summed) / len(table)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def with_blank(table: Dataset) -> Dataset:
    """Return the table with one more row, which has a token but none to learn."""
    blank = {"input_ids": [table[0]["input_ids"][:2]], "labels": [[-100, -100]]}
    return concatenate_datasets([table, Dataset.from_dict(blank, features=table.features)])


class Filled(Sampler[int]):
    """The order in which one process draws all rows but the last; then the last, until all processes have as many."""

    def __init__(self, table: Any, size: int, world: int, *, drop_last: bool) -> None:
        self._blank = len(table) - 1
        self._order = SeedableRandomSampler(range(self._blank))
        self._rows = self._blank // size * size if drop_last else self._blank
        self._length = -(-self._rows // (size * world)) * size * world

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        yield from list(self._order)[: self._rows]
        yield from [self._blank] * (self._length - self._rows)

    def set_epoch(self, epoch: int) -> None:
        self._order.set_epoch(epoch)


def _batch(start: int, size: int, rows: int) -> range:
    return range(start, min(start + size, rows))
