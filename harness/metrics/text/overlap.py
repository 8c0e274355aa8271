"""Fast counting of n-grams shared by two sequences, for ROUGE-N, BLEU and chrF.

Libraries count n-grams in dictionaries, with one Python object each. Here each n-gram is one integer (the numbers of
its items, concatenated), and a single sort of both sides finds the shared ones. Characters take an eighth of the time
that dictionaries need, and words half; see benchmarks/test_metrics_speed.py.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import NDArray

Codes = NDArray[np.int64]
Grams = tuple[Counter[tuple[Hashable, ...]], ...]


def ngrams(items: Sequence[Hashable], orders: int) -> Grams:
    """Return how often each n-gram occurs, n = 1..orders."""
    return tuple(Counter(zip(*(items[start:] for start in range(n)), strict=False)) for n in range(1, orders + 1))


def shared_with(known: Grams, items: Sequence[Hashable]) -> list[int]:
    """Return, for each order, how many n-grams of ``items`` are among the known ones (the sum of the smaller counts).

    For words, of which two texts share few: n-grams that are not known are passed over without counting them.
    """
    shared = [0] * len(known)
    for n, counts in enumerate(known, 1):
        grams = zip(*(items[start:] for start in range(n)), strict=False)
        found = Counter(filter(counts.__contains__, grams))
        shared[n - 1] = sum(min(count, counts[gram]) for gram, count in found.items())
        if not found:
            break  # nor are longer ones
    return shared


def number_words(left: Sequence[Hashable], right: Sequence[Hashable]) -> tuple[Codes, Codes, int]:
    """Return both sequences as numbers from 1, and how many distinct items there are."""
    numbers: dict[Hashable, int] = {}
    left_codes = [numbers.setdefault(item, len(numbers) + 1) for item in left]
    right_codes = [numbers.setdefault(item, len(numbers) + 1) for item in right]
    return np.array(left_codes, dtype=np.int64), np.array(right_codes, dtype=np.int64), len(numbers)


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
    """Return, for n = 1..orders, how many n-grams the two have in common (the sum of the smaller counts)."""
    bits = max(distinct.bit_length(), 1)
    if bits * orders > 62:  # too many distinct items to fit an n-gram into one integer
        return [_shared_by_counting(left, right, n) for n in range(1, orders + 1)]
    # Items are numbered from 1, so codes of different orders differ; the last bit is the side of the n-gram.
    keys = [_codes(left, bits, orders) << 1, (_codes(right, bits, orders) << 1) | 1]
    ordered = np.concatenate(keys)
    ordered.sort()
    grams = ordered >> 1
    if not len(grams):
        return [0] * orders
    changes = np.ones(len(grams) + 1, dtype=bool)
    np.not_equal(grams[1:], grams[:-1], out=changes[1:-1])
    bounds = np.flatnonzero(changes)
    starts = bounds[:-1]
    lengths = bounds[1:] - starts
    from_right = np.add.reduceat(ordered & 1, starts)
    shared = np.minimum(from_right, lengths - from_right)
    both = shared > 0
    limits = np.array([1 << (bits * n) for n in range(orders)], dtype=np.int64)
    of_order = np.searchsorted(limits, grams[starts[both]], side="right")
    return [int(count) for count in np.bincount(of_order, weights=shared[both], minlength=orders + 1)[1:]]


def _codes(items: Codes, bits: int, orders: int) -> Codes:
    """Return the codes of all n-grams of ``items``, n = 1..orders."""
    codes = [items]
    for n in range(2, orders + 1):
        if len(items) < n:
            break
        codes.append((codes[-1][:-1] << bits) | items[n - 1 :])
    return np.concatenate(codes)


def _shared_by_counting(left: Codes, right: Codes, n: int) -> int:
    mine = Counter(zip(*(left[start:].tolist() for start in range(n)), strict=False))
    theirs = Counter(zip(*(right[start:].tolist() for start in range(n)), strict=False))
    return sum(min(count, theirs[gram]) for gram, count in mine.items() if gram in theirs)


def ngram_total(length: int, n: int) -> int:
    """Return how many n-grams a sequence has."""
    return max(length - n + 1, 0)
