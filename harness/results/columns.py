"""The numbers of one variant's replies as columns: of a million replies 0.5 GB instead of a Python object per number.

The columns are numpy's. Reading a line of ``replies/VARIANT.jsonl`` with ``json`` and filling them takes 24 µs; pyarrow
takes 26, DuckDB 53 and polars 12, which would save a minute in three million lines for 170 MB of installation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import IntFlag
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from harness.stats.types import BoolArray, FloatArray
from harness.store.schema import ReplyRow

_BLOCK = 4096


class State(IntFlag):
    """What a variant's row of a dialogue has."""

    ROW = 1
    REPLY = 2
    NLL = 4
    ERROR = 8
    UNFINISHED = 16


class Column:
    """Numbers of some of the units, ``width`` each. Kept in 32 bits as long as that changes none of them."""

    def __init__(self, units: int, width: int) -> None:
        self._numbers: NDArray[np.float32] | NDArray[np.float64] = np.zeros((units, width), dtype=np.float32)
        self.defined: BoolArray = np.zeros(units, dtype=bool)

    @property
    def width(self) -> int:
        return int(self._numbers.shape[1])

    @property
    def numbers(self) -> FloatArray:
        """The numbers, shape (units, width), zero where a unit has none."""
        return self._numbers.astype(np.float64)

    def put(self, places: Sequence[int] | NDArray[np.intp], rows: Sequence[Sequence[float]] | FloatArray) -> None:
        """Enter the rows of the units at these places."""
        new = np.array(rows, dtype=np.float64).reshape(len(places), self.width)
        with np.errstate(over="ignore"):
            exact = np.array_equal(new.astype(np.float32), new, equal_nan=True)
        if self._numbers.dtype == np.float32 and not exact:
            self._numbers = self._numbers.astype(np.float64)
        where = np.asarray(places, dtype=np.intp)
        self._numbers[where] = new
        self.defined[where] = True


class Columns:
    """The scores, sufficient statistics and states of one variant's replies, a row per unit.

    ``places`` maps a dialogue's id to its unit; replies to other dialogues are left out of everything but ``names``.
    """

    def __init__(self, rows: Iterable[ReplyRow], places: Mapping[str, int]) -> None:
        self._units = len(places)
        self.scores: dict[str, Column] = {}
        self.statistics: dict[str, Column] = {}
        self.uneven: set[str] = set()  # metrics whose statistics are not equally many in every row
        self.undefined: dict[str, Counter[str]] = {}
        self.state: NDArray[np.uint8] = np.zeros(self._units, dtype=np.uint8)
        self.names: set[str] = set()
        rest = iter(rows)
        while block := list(islice(rest, _BLOCK)):
            self._add(block, places)

    def values(self, metric: str) -> tuple[FloatArray, BoolArray]:
        """Return each unit's score and whether it has one."""
        column = self.scores.get(metric)
        if column is None:
            return np.zeros(self._units), np.zeros(self._units, dtype=bool)
        return column.numbers[:, 0], column.defined

    def _add(self, block: Sequence[ReplyRow], places: Mapping[str, int]) -> None:
        scores: dict[str, tuple[list[int], list[tuple[float, ...]]]] = {}
        statistics: dict[str, tuple[list[int], list[tuple[float, ...]]]] = {}
        for row in block:
            self.names.update(row.scores)
            self.names.update(row.statistics)
            for name, reason in row.undefined.items():
                self.undefined.setdefault(name, Counter())[reason] += 1
            place = places.get(row.id)
            if place is None:
                continue
            self.state[place] = _state_of(row)
            for name, value in row.scores.items():
                if value is not None:
                    at, found = scores.setdefault(name, ([], []))
                    at.append(place)
                    found.append((value,))
            given = row.statistics
            if row.nll is not None and row.reference_tokens:
                given = {NLL_SUMS: (row.nll, float(row.reference_tokens)), **given}
            for name, numbers in given.items():
                at, found = statistics.setdefault(name, ([], []))
                at.append(place)
                found.append(numbers)
        for name, (at, found) in scores.items():
            self.scores.setdefault(name, Column(self._units, 1)).put(at, found)
        for name, (at, found) in statistics.items():
            column = self.statistics.setdefault(name, Column(self._units, len(found[0])))
            if any(len(numbers) != column.width for numbers in found):
                self.uneven.add(name)
            else:
                column.put(at, found)


NLL_SUMS = "nll"  # the sums of a likelihood: what metrics of it are computed from where a row has none of theirs


def _state_of(row: ReplyRow) -> int:
    state = State.ROW
    state |= State.REPLY if row.reply is not None else 0
    state |= State.NLL if row.nll is not None else 0
    state |= State.ERROR if row.error is not None else 0
    state |= State.UNFINISHED if row.unfinished else 0
    return int(state)
