"""The rows of a JSONL file, read when they are asked for: a million of them take 100 MB instead of many GB."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal, Protocol, overload

from harness.errors import InputError
from harness.files import AnyRow, row_of

# How this project writes the beginning of a line; other lines are parsed to find their ID.
_ID = re.compile(rb'\{"id": "([^"\\\x00-\x1f]*)", ')
_BUFFER = 1 << 18


class HasId(Protocol):
    """A row with the ID by which it is found."""

    @property
    def id(self) -> str: ...


class IndexedRows(Mapping[str, AnyRow]):
    """The rows of a file by their ID, in the file's order; no rows if there is no file.

    Of each row only its place in the file is kept. A row is read and validated each time it is asked for, which is fast
    in the file's order. Of two rows with one ID, the later counts. ``accept`` returns whether a row counts at all. With
    ``torn_tail="ignore"``, a last line without a newline is ignored. Raises InputError as ``read_rows`` does.
    """

    def __init__(
        self,
        model: type[AnyRow],
        path: Path,
        *,
        torn_tail: Literal["error", "ignore"] = "error",
        accept: Callable[[AnyRow], bool] | None = None,
    ) -> None:
        self._model = model
        self._path = path
        self._places: dict[str, int] = {}
        self._file: IO[bytes] | None = None
        if not os.path.exists(path):  # noqa: PTH110 (a name from run.json may be too long for a file)
            return
        try:
            self._file = path.open("rb", buffering=_BUFFER)
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from error
        place = 0
        for line in self._file:
            if torn_tail == "ignore" and not line.endswith(b"\n"):
                break
            if line.strip() and (id := self._accepted(line, place, accept)) is not None:
                self._places[id] = place
            place += len(line)

    def _accepted(self, line: bytes, place: int, accept: Callable[[AnyRow], bool] | None) -> str | None:
        found = _ID.match(line) if accept is None else None
        if found and found[1].isascii():
            return found[1].decode("ascii")
        row = self._row(line, place)
        return _id(row) if accept is None or accept(row) else None

    def __getitem__(self, id: str) -> AnyRow:
        place = self._places[id]
        assert self._file is not None
        self._file.seek(place)
        row = self._row(self._file.readline(), place)
        if _id(row) != id:
            raise InputError(f"{self._path}, line {self._number(place)}: the line changed, or states its ID twice.")
        return row

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, id: object) -> bool:
        return id in self._places

    def _row(self, line: bytes, place: int) -> AnyRow:
        try:
            return row_of(self._model, line, self._path, 0)
        except InputError:
            return row_of(self._model, line, self._path, self._number(place))  # counting lines takes time

    def _number(self, place: int) -> int:
        """Return the number of the line that begins at a place."""
        with self._path.open("rb") as file:
            number = 1
            while (at := file.tell()) < place and file.readline():
                number += at < place
            return number


class RowSequence(Sequence[AnyRow]):
    """Rows, usually ``IndexedRows``, by their position."""

    def __init__(self, rows: Mapping[str, AnyRow]) -> None:
        self._rows = rows
        self.ids = tuple(rows)

    @overload
    def __getitem__(self, place: int) -> AnyRow: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[AnyRow]: ...
    def __getitem__(self, place: int | slice) -> AnyRow | Sequence[AnyRow]:
        if isinstance(place, slice):
            return [self._rows[id] for id in self.ids[place]]
        return self._rows[self.ids[place]]

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[AnyRow]:
        return iter(self._rows.values())


def _id(row: object) -> str:
    return str(getattr(row, "id", ""))
