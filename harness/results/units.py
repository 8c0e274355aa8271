"""The dialogues of a run as the units of its statistics, in an order independent of the file's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from harness.stats.slices import length_bucket, level_of
from harness.store.schema import DialogueRow

Slice = tuple[str, str]
LENGTH_BUCKET = "length_bucket"


@dataclass(frozen=True)
class Units:
    """All dialogues of a run by id. Every metric is resampled over all of them, whether it has a value or not."""

    rows: Mapping[str, DialogueRow]

    @staticmethod
    def of(rows: Sequence[DialogueRow]) -> Units:
        return Units({row.id: row for row in sorted(rows, key=lambda row: row.id)})

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self.rows)

    @cached_property
    def conversations(self) -> tuple[str, ...] | None:
        """The conversation of each unit (its own id if it names none), or None if no conversation has several units."""
        names = [row.conversation for row in self.rows.values()]
        named = [name for name in names if name is not None]
        if len(set(named)) == len(named):
            return None
        # The prefixes keep a dialogue's id from clashing with the name of a conversation.
        pairs = zip(self.ids, names, strict=True)
        return tuple(f"dialogue {one}" if name is None else f"conversation {name}" for one, name in pairs)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns to slice by, with the derived ``length_bucket`` (words of the prompt) last."""
        named = dict.fromkeys(column for row in self.rows.values() for column in row.columns)
        return tuple(dict.fromkeys([*named, LENGTH_BUCKET]))

    def levels(self, column: str) -> tuple[str | None, ...]:
        """Return the level of each unit in a column, or None if it has none."""
        return tuple(level_of(self._value(row, column)) for row in self.rows.values())

    def within(self, slice: Slice) -> frozenset[str]:
        """Return the ids of the units in a slice."""
        column, level = slice
        return frozenset(name for name, found in zip(self.ids, self.levels(column), strict=True) if found == level)

    def _value(self, row: DialogueRow, column: str) -> object:
        if column == LENGTH_BUCKET and column not in row.columns:
            return length_bucket(len(row.prompt.split()))
        return row.columns.get(column)
