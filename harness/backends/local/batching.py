"""Batches by token budget, longest first: the largest batch comes first, so that too little memory shows at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeVar


class Sized(Protocol):
    """Anything with a number of tokens."""

    def __len__(self) -> int: ...


Item = TypeVar("Item", bound=Sized)


def longest_first(items: Sequence[Item]) -> list[Item]:
    """Return the items by falling length; equal lengths keep their order."""
    return sorted(items, key=len, reverse=True)


def batches(items: Sequence[Item], budget: int, *, most_rows: int | None = None) -> Iterator[list[Item]]:
    """Yield runs of ``items`` whose padded size (rows × longest) stays within ``budget`` tokens; at least one each.

    Neighbours are batched, so give the items by falling length and little is padded.
    """
    batch: list[Item] = []
    longest = 0
    for item in items:
        width = max(longest, len(item))
        full = most_rows is not None and len(batch) >= most_rows
        if batch and (full or width * (len(batch) + 1) > budget):
            yield batch
            batch, width = [], len(item)
        batch.append(item)
        longest = width
    if batch:
        yield batch


def bucket(value: int, step: int) -> int:
    """Return ``value`` rounded up to a multiple of ``step``, so that few distinct shapes occur."""
    return -(-value // step) * step
