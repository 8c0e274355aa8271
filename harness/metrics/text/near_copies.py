"""Which of many short texts are nearly the same, for ``collapse``: columns of numbers, not a Python object a shingle.

Pairs are found, without comparing each with each, by prefix filtering: two sets whose Jaccard index is at least t
share one of the (1 - t)n + 1 rarest members of either (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and Srikant
2007). All are found of up to ``EXACT`` texts. Of more, where thousands share their rarest shingles and are no copies, a
text is compared with ``MOST`` others only, so that the time grows no faster than the number of texts.

A million texts of 50 words take 600 bytes each. A shingle is one integer: the places of its words in the sorted
vocabulary, side by side, so that shingles sort as tuples of their words do.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, groupby

import numpy as np
from numpy.typing import NDArray

WIDTH = 3  # words a shingle
SIMILAR = 0.5  # Jaccard index of two sets of shingles from which they are nearly the same
REJECTED = 50  # candidates that may turn out to be legitimate before a text counts as its own
EXACT = 30_000  # texts up to which all pairs are found
MOST = 10_000  # of more texts, others with which one is compared at most, those with its rarest shingles first

_BLOCK = 1 << 15  # texts that are handled at a time
_MANY = 1 << 8  # holders of one shingle that are compared without asking for the result of each
_PAIRS = 1 << 16  # texts that are compared at a time
_WORD_BITS = 21  # three of them in one integer
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio: multiplicative hashing
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
    sizes = (rows != _NONE).sum(axis=1).astype(np.int16)
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


def _candidates(rows: Codes, sizes: NDArray[np.int16]) -> Iterator[tuple[int, Iterator[int]]]:
    """Yield each text that shares one of its rarest members with others that may be like it, and these, each once.

    Sets of a and b members of which at least (a + b) / 3 are common have a Jaccard index of a half. If the first common
    one is at place p of the first set and q of the other, no more than a - p and b - q are: so b <= 2a - 3p and
    a <= 2b - 3q (the positional filter of Xiao, Wang, Lin and Yu 2008). Members that every other text has are far back
    in all of them and lead to no candidates. Most pairs that are left are told apart by their marks, many at a time.
    """
    texts, members, places = _rarest(rows, sizes, *_shared(rows))
    reach = 2 * sizes[texts] - 3 * places
    base = 4 * (rows.shape[1] + 1)
    lowest = members * np.int64(base)
    keys = lowest + (base // 2 - reach)  # a shingle's holders, those of the largest reach first
    order = np.argsort(keys, kind="stable")
    keys, holders = keys[order], texts[order]
    ends = np.cumsum(np.bincount(members))
    after = ends[members].astype(np.int32)
    first = np.concatenate([[0], ends])[members].astype(np.int32)
    last = np.empty_like(first)
    last[order] = np.searchsorted(keys, (lowest + (base // 2 - sizes[texts]))[order], side="right")
    in_order = texts[np.argsort(members, kind="stable")]  # the holders from ``first`` to ``after``, by text
    del order, keys, lowest, members, places
    if len(rows) > EXACT:
        after = first + _shares(texts, after - first)
        last = np.minimum(last, after)
    asked = np.flatnonzero(last - first > (reach >= sizes[texts]))  # a text reaches itself
    alike = partial(_alike, _marks(rows), sizes)

    def compared(probes: Codes) -> dict[int, NDArray[np.int32]]:
        """Return the holders of each probe's shingle that may be like its text."""
        many = last[probes] - first[probes]
        asking = np.repeat(probes, many)
        others = holders[np.arange(len(asking)) + np.repeat(first[probes] - (np.cumsum(many) - many), many)]
        likely = alike(texts[asking], others)
        asking, others = asking[likely], others[likely]
        starts = np.flatnonzero(np.diff(asking, prepend=-1))
        return dict(zip(asking[starts].tolist(), np.split(others, starts[1:]), strict=len(starts) > 0))

    def one_by_one(probe: int) -> Iterator[int]:
        """Yield what ``compared`` finds for a shingle that many have: one of the next may be a twin already."""
        for start in range(int(first[probe]), int(after[probe]), _MANY):
            some = in_order[start : min(start + _MANY, int(after[probe]))]
            yield from some[alike(np.broadcast_to(texts[probe], some.shape), some)].tolist()

    for probes in _in_blocks(asked, texts[asked], np.minimum(last - first, _MANY)[asked]):
        common = last[probes] - first[probes] > _MANY
        found = compared(probes[~common])
        wanted = np.isin(texts[probes], texts[[*found, *probes[common].tolist()]])
        for place, its_probes in groupby(probes[wanted].tolist(), key=lambda probe: int(texts[probe])):
            each = (
                one_by_one(one) if last[one] - first[one] > _MANY else np.sort(found[one]).tolist()
                for one in its_probes
                if one in found or last[one] - first[one] > _MANY
            )
            yield place, _distinct(chain.from_iterable(each))


def _shares(texts: NDArray[np.int32], many: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return how many holders of each probe's shingle are compared, so that those of a text are ``MOST`` at most."""
    before = np.cumsum(many, dtype=np.int64) - many
    begins = np.flatnonzero(np.diff(texts, prepend=-1))
    before -= np.repeat(before[begins], np.diff(np.append(begins, len(texts))))
    shares: NDArray[np.int32] = np.clip(MOST - before, 0, many).astype(np.int32)
    return shares


def _alike(
    marks: NDArray[np.uint64], sizes: NDArray[np.int16], some: NDArray[np.int32], others: NDArray[np.int32]
) -> NDArray[np.bool_]:
    """Return which pairs of different texts may be nearly the same."""
    one, two, three, four = np.bitwise_count(marks.take(some, axis=0) ^ marks.take(others, axis=0)).T
    # In eight bits a sum of more than 255 only seems smaller.
    near: NDArray[np.bool_] = one + two + three + four <= (sizes[some] + sizes[others]) // 3
    near &= some != others
    return near


def _in_blocks(asked: Codes, texts: NDArray[np.int32], many: NDArray[np.int32]) -> list[Codes]:
    """Return ``asked`` in blocks of about ``_PAIRS`` comparisons, the probes of one text in one block."""
    if not len(asked):
        return []
    begins = np.flatnonzero(np.diff(texts, prepend=-1))
    numbers = (np.cumsum(many, dtype=np.int64) // _PAIRS)[begins]
    return np.split(asked, begins[np.flatnonzero(np.diff(numbers)) + 1])


def _distinct(places: Iterable[int]) -> Iterator[int]:
    seen: set[int] = set()
    for place in places:
        if place not in seen:
            seen.add(place)
            yield place


def _marks(rows: Codes) -> NDArray[np.uint64]:
    """Return 256 bits of each set: for each member one, which others may share.

    Where two sets differ in a bit they differ in a member, and in another for each bit. Sets of a and b members with a
    Jaccard index of a half differ in (a + b) / 3 members at most, so in no more bits (the bitmap filter of Sandes,
    Teodoro and Melo 2020).
    """
    marks = np.zeros((len(rows), 4), dtype=np.uint64)
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        hashed = (block.astype(np.uint64) * _SPREAD) >> np.uint64(64 - 8)
        bits = np.where(block == _NONE, np.uint64(0), np.uint64(1) << (hashed & np.uint64(63)))
        for word in range(4):
            own = np.where(hashed >> np.uint64(6) == np.uint64(word), bits, np.uint64(0))
            marks[start : start + len(block), word] = np.bitwise_or.reduce(own, axis=1)
    return marks


def _shared(rows: Codes) -> tuple[Codes, Codes]:
    """Return the shingles that several texts have, sorted, and how many have each."""
    every = rows[rows != _NONE]
    every.sort()
    shared, repeats = np.unique(every[1:][every[1:] == every[:-1]], return_counts=True)
    return shared, repeats + 1


def _rarest(
    rows: Codes, sizes: NDArray[np.int16], shared: Codes, counts: Codes
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int16]]:
    """Return text, shared shingle (its place in ``shared``) and place in the text of all texts' rarest members.

    Texts are in order, and of each its members from the rarest on, equally frequent ones in their own order.
    """
    if not len(shared):
        return np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int16)
    few = np.floor(sizes * (1 - SIMILAR)).astype(np.int64) + 1
    texts, members, places = [], [], []
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK]
        place = np.minimum(np.searchsorted(shared, block), len(shared) - 1)
        known = shared[place] == block
        count = np.where(known, counts[place], 1)
        count[block == _NONE] = _NONE
        order = np.argsort(count, axis=1, kind="stable")
        chosen = np.take_along_axis(known, order, axis=1)
        chosen &= np.arange(block.shape[1]) < few[start : start + len(block), None]
        of, at = np.nonzero(chosen)
        texts.append((of + start).astype(np.int32))
        places.append(at.astype(np.int16))
        members.append(np.take_along_axis(place, order, axis=1)[chosen].astype(np.int32))
    return np.concatenate(texts), np.concatenate(members), np.concatenate(places)
