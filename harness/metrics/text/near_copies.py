"""Which of many short texts are nearly the same, for ``collapse``: columns of numbers, not a Python object a shingle.

All pairs are found, without comparing each with each, by prefix filtering: two sets whose Jaccard index is at least t
share one of the (1 - t)n + 1 rarest members of either (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant
2007).

A million texts of 50 words take 600 bytes each. A shingle is one integer: the places of its words in the sorted
vocabulary, side by side, so that shingles sort as tuples of their words do.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

WIDTH = 3  # words a shingle
SIMILAR = 0.5  # Jaccard index of two sets of shingles from which they are nearly the same
REJECTED = 50  # candidates that may turn out to be legitimate before a text counts as its own

_BLOCK = 1 << 15  # texts that are handled at a time
_WORD_BITS = 21  # three of them in one integer
_NONE = np.iinfo(np.int64).max  # fills the row of a text with fewer shingles than others

Codes = NDArray[np.int64]


class Vocabulary:
    """The words of all texts, numbered as they come."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, words: Sequence[str]) -> list[int]:
        """Return the words' numbers."""
        numbers = self._numbers
        return [numbers.setdefault(word, len(numbers)) for word in words]

    def ranks(self) -> Codes:
        """Return each word's place in the sorted vocabulary by its number, from 1."""
        order = sorted(self._numbers, key=self._numbers.__getitem__)
        ranks = np.empty(len(order), dtype=np.int64)
        by_word = sorted(range(len(order)), key=order.__getitem__)
        ranks[by_word] = np.arange(1, len(order) + 1)
        return ranks


class Beginnings:
    """The first words of texts that share a vocabulary, as numbers."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._words = array("i")
        self._lengths = array("i")

    def add(self, words: Sequence[str]) -> None:
        """Add a text, of at least one word."""
        self._words.extend(self._vocabulary.number(words))
        self._lengths.append(len(words))

    def shingles(self) -> Codes:
        """Return the distinct shingles of each text, sorted: a row per text, filled up with ``_NONE``.

        A text of fewer than ``WIDTH`` words is one shingle of all of them.
        """
        ranks = self._vocabulary.ranks()
        lengths = np.frombuffer(self._lengths, dtype=np.int32)
        words = np.frombuffer(self._words, dtype=np.int32)
        ends = np.cumsum(lengths, dtype=np.int64)
        longest = int(lengths.max(initial=WIDTH))
        pack = _packing(ranks, words)
        rows = np.empty((len(lengths), max(longest, WIDTH) - WIDTH + 1), dtype=np.int64)
        for start in range(0, len(lengths), _BLOCK):
            of = lengths[start : start + _BLOCK]
            block = np.zeros((len(of), max(longest, WIDTH)), dtype=np.int64)
            first = int(ends[start] - lengths[start])
            block[np.arange(block.shape[1]) < of[:, None]] = ranks[words[first : int(ends[start + len(of) - 1])]]
            codes = pack(block)
            codes[np.arange(codes.shape[1]) >= np.maximum(of - WIDTH + 1, 1)[:, None]] = _NONE
            codes.sort(axis=1)
            codes[:, 1:][codes[:, 1:] == codes[:, :-1]] = _NONE
            codes.sort(axis=1)
            rows[start : start + len(of)] = codes
        return rows


def _packing(ranks: Codes, words: NDArray[np.int32]) -> Callable[[Codes], Codes]:
    """Return the function from rows of ranks to rows of shingles, as integers in the order of their words."""
    if len(ranks) < 1 << _WORD_BITS:
        return lambda rows: (rows[:, :-2] << 2 * _WORD_BITS) | (rows[:, 1:-1] << _WORD_BITS) | rows[:, 2:]
    # Too many words for three in one integer: number the pairs first. Some span two texts, which does no harm.
    following = ranks[words]
    padded = np.concatenate([following, [0]])
    pairs = np.unique(np.concatenate([(padded[:-1] << 31) | padded[1:], following << 31]))
    return lambda rows: (np.searchsorted(pairs, (rows[:, :-2] << 31) | rows[:, 1:-1]) << 31) | rows[:, 2:]


def twins(rows: Codes, same: Callable[[int, int], bool]) -> list[int | None]:
    """Return, for each row of shingles, the place of another that is nearly the same, or None.

    ``same(one, other)`` returns whether two texts may be the same; a text has no more than ``REJECTED`` such.
    """
    found: list[int | None] = [None] * len(rows)
    sizes = (rows != _NONE).sum(axis=1)
    for place, candidates in _candidates(rows, sizes):
        mine = set(rows[place, : sizes[place]].tolist())
        rejected = 0
        for other in candidates:
            common = len(mine.intersection(rows[other, : sizes[other]].tolist()))
            if common / (len(mine) + int(sizes[other]) - common) < SIMILAR:
                continue
            if not same(place, other):
                found[place] = other
                break
            rejected += 1
            if rejected == REJECTED:
                break
    return found


def _candidates(rows: Codes, sizes: NDArray[np.int64]) -> Iterator[tuple[int, Iterator[int]]]:
    """Yield each text that shares one of its rarest members with others, and these others, each once."""
    texts, members = _rarest(rows, sizes, *_shared(rows))
    if not len(texts):
        return
    order = np.argsort(members, kind="stable")
    holders = texts[order]
    starts = np.searchsorted(members[order], np.arange(int(members.max()) + 2))
    bounds = [*np.flatnonzero(np.diff(texts, prepend=-1)), len(texts)]

    def others(place: int, first: int, last: int) -> Iterator[int]:
        seen = {place}
        for member in members[first:last].tolist():
            for other in holders[starts[member] : starts[member + 1]].tolist():
                if other not in seen:
                    seen.add(other)
                    yield other

    for first, last in pairwise(bounds):
        place = int(texts[first])
        yield place, others(place, int(first), int(last))


def _shared(rows: Codes) -> tuple[Codes, Codes]:
    """Return the shingles that several texts have, sorted, and how many have each."""
    every = rows[rows != _NONE]
    every.sort()
    shared, repeats = np.unique(every[1:][every[1:] == every[:-1]], return_counts=True)
    return shared, repeats + 1


def _rarest(rows: Codes, sizes: NDArray[np.int64], shared: Codes, counts: Codes) -> tuple[Codes, Codes]:
    """Return text and shared shingle (its place in ``shared``) of every one of the texts' rarest members.

    Texts are in order, and of each its members from the rarest on, equally frequent ones in their own order.
    """
    if not len(shared):
        return np.empty(0, np.int64), np.empty(0, np.int64)
    few = np.floor(sizes * (1 - SIMILAR)).astype(np.int64) + 1
    texts, members = [], []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        place = np.minimum(np.searchsorted(shared, block), len(shared) - 1)
        known = shared[place] == block
        count = np.where(known, counts[place], 1)
        count[block == _NONE] = _NONE
        order = np.argsort(count, axis=1, kind="stable")
        chosen = np.take_along_axis(known, order, axis=1)
        chosen &= np.arange(block.shape[1]) < few[start : start + len(block), None]
        texts.append(np.nonzero(chosen)[0] + start)
        members.append(np.take_along_axis(place, order, axis=1)[chosen])
    return np.concatenate(texts), np.concatenate(members)
