"""Rows of JSON, JSONL, CSV, TSV and Parquet files, each with its line number.

Files are read here and not by a dataset library, because errors must name the line and because ``harness score`` works
without such a library. An unreadable row is yielded with its problem: the caller decides whether it ends the run or is
counted. ``plain`` converts the values of other columns to plain JSON.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.files import read_bytes

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")

_BETWEEN = re.compile(r"[ \t\r\n,:]*")
_UTF8_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class SourceRow:
    """One row: its line (in Parquet files its number, from 1) and its values, or why it cannot be read."""

    line: int
    values: dict[str, object]
    reason: str | None = None  # short, for counting
    problem: str | None = None  # a clause for the message


def read_file(path: Path) -> Iterator[SourceRow]:
    """Yield the rows of a file, whose format its suffix gives.

    Raises InputError if the file as a whole is unusable: missing, empty, damaged or of an unknown format.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: dialogues are read from {', '.join(SUFFIXES)}, not from '{suffix}' files.")
    if suffix == ".parquet":
        yield from _read_parquet(path)
        return
    data = read_bytes(path)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{path} is UTF-16 text. Save it as UTF-8.")
    data = data.removeprefix(_UTF8_BOM)
    if not data.strip():
        raise InputError(f"{path} is empty.")
    if suffix in (".csv", ".tsv"):
        yield from _read_csv(path, data)
    elif suffix == ".json" and not _is_lines(data):
        yield from _read_json(path, data)
    else:
        yield from _read_lines(data)


def _read_lines(data: bytes) -> Iterator[SourceRow]:
    # Only "\n" ends a line: splitlines() would also split at characters that JSON strings may contain.
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield SourceRow(number, {}, "not UTF-8", f"byte {error.start + 1} is not UTF-8 text")
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield SourceRow(number, {}, "not JSON", f"not JSON ({_json_reason(error)})")
            continue
        yield _object_row(number, value)


def _is_lines(data: bytes) -> bool:
    """Return whether a ``.json`` file contains one object per line, as many do."""
    first, _, rest = data.lstrip().partition(b"\n")
    if not first.lstrip().startswith(b"{") or not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _read_json(path: Path, data: bytes) -> Iterator[SourceRow]:
    """Read the array of a JSON file element by element, so that each has its line.

    If the file contains an object, its first array value holds the rows.
    """
    try:
        text = data.decode("utf-8")
        json.loads(text)  # reports what is wrong and where, so that the loop below can trust the text
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text. Save the file as UTF-8.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({_json_reason(error)}).") from error
    decoder = json.JSONDecoder()
    at = _array_start(text, decoder)
    if at < 0:
        raise InputError(f"{path}: expected a list of dialogues, or an object that contains one.")
    counted, line = 0, 1
    at = _skip(text, at + 1)
    while text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        value, at = decoder.raw_decode(text, at)
        yield _object_row(line, value)
        at = _skip(text, at)


def _array_start(text: str, decoder: json.JSONDecoder) -> int:
    """Return where the array of rows starts in a valid JSON text, or -1."""
    at = _skip(text, 0)
    if text[at] == "{":
        at = _skip(text, at + 1)
        while text[at] == '"':
            _, at = decoder.raw_decode(text, at)
            at = _skip(text, at)
            if text[at] == "[":
                break
            _, at = decoder.raw_decode(text, at)
            at = _skip(text, at)
    return at if text[at] == "[" else -1


def _skip(text: str, at: int) -> int:
    """Return where the next value, key or closing bracket starts."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _object_row(line: int, value: object) -> SourceRow:
    if not isinstance(value, dict):
        return SourceRow(line, {}, "not an object", f"expected an object with columns, found {_kind(value)}")
    return SourceRow(line, value)


def _read_csv(path: Path, data: bytes) -> Iterator[SourceRow]:
    # Invalid bytes become lone surrogates, which are rejected later with their column.
    text = data.decode("utf-8", errors="surrogateescape")
    with _any_field_size():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(text, path), strict=True)
        header: list[str] | None = None
        began = 1
        try:
            for fields in reader:
                line, began = began, reader.line_num + 1
                if not any(field.strip() for field in fields):
                    continue
                if header is None:
                    header = _header(fields, path)
                elif len(fields) != len(header):
                    found = f"{len(fields)} fields where the header has {len(header)}"
                    yield SourceRow(line, {}, "wrong number of fields", found)
                else:
                    yield SourceRow(line, dict(zip(header, fields, strict=True)))
        except csv.Error as error:
            raise InputError(
                f"{path}, line {began}: not valid CSV ({error}). Check for unclosed or undoubled quotation marks."
            ) from error


@contextmanager
def _any_field_size() -> Iterator[None]:
    """Lift the ``csv`` module's default limit of 128 KiB per field, which replies may exceed."""
    before = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(before)


def _delimiter(text: str, path: Path) -> str:
    if path.suffix.lower() == ".tsv":
        return "\t"
    first = text.lstrip().partition("\n")[0]
    return max((",", ";", "\t"), key=first.count)  # on a tie, the comma


def _header(fields: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in fields]
    duplicates = sorted({name for name in names if names.count(name) > 1})
    if duplicates:
        raise InputError(f"{path}, line 1: the column name '{duplicates[0]}' is repeated.")
    return names


def _read_parquet(path: Path) -> Iterator[SourceRow]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    if not path.is_file():
        read_bytes(path)  # raises
    try:
        with pq.ParquetFile(path) as file:
            batches = (batch.to_pylist() for batch in file.iter_batches(batch_size=1024))
            for number, values in enumerate(chain.from_iterable(batches), 1):
                yield SourceRow(number, values)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not a readable Parquet file ({first_line(error)}).") from error


def _json_reason(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0]


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)


def plain(value: object) -> Any:
    """Return ``value`` as plain JSON: NaN and infinities become None, dates ISO 8601, bytes a note of their length."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
