"""The dialogues of a run as the units of its statistics, in an order independent of the file's."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property

from harness.stats.slices import length_bucket, level_of
from harness.store.schema import DialogueRow

Slice = tuple[str, str]
LENGTH_BUCKET = "length_bucket"


class Units:
    """All dialogues of a run by id. Every metric is resampled over all of them, whether it has a value or not.

    ``each`` returns the dialogues, from the first on each time: their texts may be too many to hold.
    """

    def __init__(self, each: Callable[[], Iterable[DialogueRow]]) -> None:
        self._each = each
        self._last: tuple[str, tuple[str | None, ...]] = ("", ())

    @cached_property
    def _conversation_of(self) -> Mapping[str, str | None]:
        return dict(sorted({row.id: row.conversation for row in self._each()}.items(), key=lambda pair: pair[0]))

    @cached_property
    def ids(self) -> tuple[str, ...]:
        return tuple(self._conversation_of)

    @cached_property
    def places(self) -> Mapping[str, int]:
        """The position of each unit by its id."""
        return {name: place for place, name in enumerate(self.ids)}

    @cached_property
    def conversations(self) -> tuple[str, ...] | None:
        """The conversation of each unit (its own id if it names none), or None if no conversation has several units."""
        names = self._conversation_of.values()
        named = [name for name in names if name is not None]
        if len(set(named)) == len(named):
            return None
        # The prefixes keep a dialogue's id from clashing with the name of a conversation.
        pairs = zip(self.ids, names, strict=True)
        return tuple(f"dialogue {one}" if name is None else f"conversation {name}" for one, name in pairs)

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns to slice by, with the derived ``length_bucket`` (words of the prompt) last."""
        named = dict.fromkeys(column for row in self._each() for column in row.columns)
        return tuple(dict.fromkeys([*named, LENGTH_BUCKET]))

    def levels(self, column: str) -> tuple[str | None, ...]:
        """Return the level of each unit in a column, or None if it has none."""
        if self._last[0] != column:
            found = {row.id: level_of(self._value(row, column)) for row in self._each()}
            levels = (found[name] for name in self.ids)
            self._last = column, tuple(None if level is None else sys.intern(level) for level in levels)
        return self._last[1]

    def within(self, slice: Slice) -> frozenset[str]:
        """Return the ids of the units in a slice."""
        column, level = slice
        return frozenset(name for name, found in zip(self.ids, self.levels(column), strict=True) if found == level)

    def _value(self, row: DialogueRow, column: str) -> object:
        if column == LENGTH_BUCKET and column not in row.columns:
            return length_bucket(len(row.prompt.split()))
        return row.columns.get(column)
