"""Batches dealt out to several processes are those that one process forms."""

from __future__ import annotations

import pytest
from accelerate.data_loader import BatchSamplerShard, SeedableRandomSampler
from datasets import Dataset
from torch.utils.data import BatchSampler

from finetune.shared_trainer import Filled, with_blank


def dealt(rows: int, size: int, world: int, *, drop_last: bool = False, epoch: int = 0) -> list[list[list[int]]]:
    """The batches of each process, as accelerate deals them out."""
    samplers = [Filled(range(rows + 1), size, world, drop_last=drop_last) for _ in range(world)]
    for sampler in samplers:
        sampler.set_epoch(epoch)
    return [
        list(BatchSamplerShard(BatchSampler(sampler, size, drop_last), world, rank))
        for rank, sampler in enumerate(samplers)
    ]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("epoch", [0, 1])
@pytest.mark.parametrize(("rows", "size", "world"), [(45, 4, 2), (45, 4, 3), (48, 4, 2), (3, 4, 2), (41, 5, 4)])
def test_every_row_is_drawn_once_in_the_batch_that_one_process_forms(
    rows: int, size: int, world: int, drop_last: bool, epoch: int
) -> None:
    alone = SeedableRandomSampler(range(rows))
    alone.set_epoch(epoch)
    expected = list(BatchSampler(alone, size, drop_last))
    shares = dealt(rows, size, world, drop_last=drop_last, epoch=epoch)
    assert len({len(share) for share in shares}) == 1  # nobody waits for a batch that is not there
    in_turn = [batch for group in zip(*shares, strict=True) for batch in group]
    assert [[row for row in batch if row < rows] for batch in in_turn][: len(expected)] == expected
    assert all(set(batch) == {rows} for batch in in_turn[len(expected) :])


def test_nothing_is_learned_of_the_blank_row() -> None:
    table = with_blank(Dataset.from_dict({"input_ids": [[1, 5, 9]], "labels": [[-100, 5, 9]]}))
    assert table[1] == {"input_ids": [1, 5], "labels": [-100, -100]}
