"""Fast counting of n-grams shared by two sequences, for ROUGE-N, BLEU and chrF.

Of words, two texts share few n-grams: those of the reference are counted once, and those of a reply looked up.
Characters are counted by sorting: each n-gram is one integer (the numbers of its items, concatenated), and a single
sort of both sides finds the shared ones, in an eighth of the time that dictionaries need; see
benchmarks/test_metrics_speed.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Grams = tuple[Counter[Hashable], ...]


def ngrams(items: Sequence[Hashable], orders: int) -> Grams:
    """Return how often each n-gram occurs, n = 1..orders."""
    return tuple(Counter(_in_order(items, n)) for n in range(1, orders + 1))


def _in_order(items: Sequence[Hashable], n: int) -> Iterable[Hashable]:
    """Return the n-grams of a sequence; of order 1 they are the items."""
    return items if n == 1 else zip(*[items[start:] for start in range(n)], strict=False)


def shared_with(known: Grams, items: Sequence[Hashable]) -> list[int]:
    """Return, for each order, how many n-grams of ``items`` are among the known ones (the sum of the smaller counts).

    For words, of which two texts share few: n-grams that are not known are passed over without counting them.
    """
    shared = [0] * len(known)
    for n, counts in enumerate(known, 1):
        found = Counter(filter(counts.__contains__, _in_order(items, n)))
        if not found:
            break  # nor are longer ones
        shared[n - 1] = sum(map(min, found.values(), map(counts.__getitem__, found)))
    return shared


def number_characters(left: str, right: str) -> tuple[Codes, Codes, int]:
    """Return the characters of both texts (lone surrogates too) as numbers from 1, and how many are distinct."""
    points = np.frombuffer((left + right).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    if not len(points):
        return np.empty(0, np.int64), np.empty(0, np.int64), 0
    seen = np.zeros(int(points.max()) + 1, dtype=bool)
    seen[points] = True
    numbers = np.cumsum(seen)
    codes = numbers[points]
    return codes[: len(left)], codes[len(left) :], int(numbers[-1])


def shared_ngrams(left: Codes, right: Codes, distinct: int, orders: int) -> list[int]:
    """Return, for n = 1..orders, how many n-grams the two have in common (the sum of the smaller counts).

    Sorted n-grams of the highest order are sorted by their beginnings too, which are those of the lower orders.
    """
    bits = max(distinct.bit_length(), 1)
    if bits * orders > 62:  # too many distinct items to fit an n-gram into one integer
        return [_shared_by_counting(left, right, n) for n in range(1, orders + 1)]
    # The last bit is the side of the n-gram.
    ordered = np.concatenate([_codes(left, bits, orders) << 1, (_codes(right, bits, orders) << 1) | 1])
    count = len(ordered)
    if not count:
        return [0] * orders
    ordered.sort()
    grams = ordered >> np.arange(1 + bits * (orders - 1), 0, -bits)[:, None]
    changes = np.ones((orders, count), dtype=bool)
    np.not_equal(grams[:, 1:], grams[:, :-1], out=changes[:, 1:])
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=orders * count)
    from_right = np.add.reduceat(np.tile(ordered & 1, orders), starts)
    shared = np.minimum(from_right, lengths - from_right)
    shared[grams.ravel()[starts] & ((1 << bits) - 1) == 0] = 0  # ran over the end of a text
    return [int(one) for one in np.add.reduceat(shared, np.searchsorted(starts, np.arange(orders) * count))]


def _codes(items: Codes, bits: int, orders: int) -> Codes:
    """Return the n-gram of the highest order that begins at each item; beyond the end items are 0, else from 1."""
    padded = np.concatenate([items, np.zeros(orders - 1, dtype=np.int64)])
    codes = items
    for n in range(1, orders):
        codes = (codes << bits) | padded[n : n + len(items)]
    return codes


def _shared_by_counting(left: Codes, right: Codes, n: int) -> int:
    mine = Counter(zip(*(left[start:].tolist() for start in range(n)), strict=False))
    theirs = Counter(zip(*(right[start:].tolist() for start in range(n)), strict=False))
    return sum(min(count, theirs[gram]) for gram, count in mine.items() if gram in theirs)


def ngram_total(length: int, n: int) -> int:
    """Return how many n-grams a sequence has."""
    return max(length - n + 1, 0)
