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
from itertools import chain
from pathlib import Path
from typing import Any

from harness.dialogues.json_files import SourceRow, is_lines, json_reason, object_row, read_json, refuse_split
from harness.dialogues.unpack import OTHER_ENCODING, PACKED, read_text_bytes
from harness.errors import InputError, first_line
from harness.files import read_bytes

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet")
DEEPEST = 100  # levels of lists and objects in a column; what is written later cannot hold 255

__all__ = ["SUFFIXES", "SourceRow", "is_dialogue_file", "plain", "read_file"]


def read_file(path: Path, *, encoding: str | None = None, split: str | None = None) -> Iterator[SourceRow]:
    """Yield the rows of a file, whose format its suffix gives.

    ``encoding`` is that of a text file, by default UTF-8 or, with a byte-order mark, UTF-16. ``split`` chooses among
    the arrays of a JSON object, which is necessary if it has several. Raises InputError if the file as a whole is
    unusable: missing, empty, damaged, of an unknown format, or without that split.
    """
    suffix = _suffix(path)
    packed = path.suffix.lower() in PACKED
    if suffix not in SUFFIXES or (packed and suffix == ".parquet"):
        raise InputError(
            f"{path}: dialogues are read from {', '.join(SUFFIXES)} (text also as {', '.join(PACKED)}), "
            f"not from '{suffix}{path.suffix.lower() if packed else ''}' files."
        )
    if suffix == ".parquet":
        refuse_split(path, split)
        if encoding is not None:
            raise InputError(f"{path} is not a text file, so dialogues.encoding cannot be used.")
        yield from _read_parquet(path)
        return
    data = read_text_bytes(path, encoding)
    if not data.strip():
        raise InputError(f"{path} is empty.")
    if suffix == ".json" and not is_lines(data):
        yield from read_json(path, data, split)
        return
    refuse_split(path, split)
    if suffix in (".csv", ".tsv"):
        yield from _read_csv(path, data, "\t" if suffix == ".tsv" else None)
    else:
        yield from _read_lines(data)


def is_dialogue_file(path: Path) -> bool:
    """Return whether a path has the name of a file that ``read_file`` reads."""
    return _suffix(path) in SUFFIXES


def _suffix(path: Path) -> str:
    """Return the suffix that tells the format: of ``d.csv.gz``, ``.csv``."""
    return (Path(path.stem) if path.suffix.lower() in PACKED else path).suffix.lower()


def _read_lines(data: bytes) -> Iterator[SourceRow]:
    # Only "\n" ends a line: splitlines() would also split at characters that JSON strings may contain.
    for number, line in enumerate(data.split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            yield SourceRow(number, {}, "not UTF-8", f"byte {error.start + 1} is not UTF-8 text; {OTHER_ENCODING}")
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            yield SourceRow(number, {}, "not JSON", f"not JSON ({json_reason(error)})")
            continue
        yield object_row(number, value)


def _read_csv(path: Path, data: bytes, delimiter: str | None) -> Iterator[SourceRow]:
    # Invalid bytes become lone surrogates, which are rejected later with their column.
    text = data.decode("utf-8", errors="surrogateescape")
    with _any_field_size():
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter or _delimiter(text), strict=True)
        header: list[str] | None = None
        began = 1
        try:
            for fields in reader:
                line, began = began, reader.line_num + 1
                if not any(field.strip() for field in fields) or (header is None and _STATED.fullmatch(fields[0])):
                    continue
                if header is None:
                    header = _header(fields, path)
                    continue
                while len(fields) > len(header) and not fields[-1].strip():
                    fields.pop()  # Excel ends lines with delimiters for columns that were empty
                if len(fields) != len(header):
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


# Excel's first line may state the delimiter: "sep=;". Read with that delimiter, its first field is "sep=".
_STATED = re.compile(r"sep=[,;\t|]?")


def _delimiter(text: str) -> str:
    first = text.lstrip().partition("\n")[0].strip("\r")
    if first.startswith("sep=") and len(first) == 5:
        return first[4]
    return max((",", ";", "\t"), key=first.count)  # on a tie, the comma


def _header(fields: list[str], path: Path) -> list[str]:
    names = [name.strip() for name in fields]
    while not names[-1]:
        names.pop()
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


def plain(value: object, depth: int = 0) -> Any:
    """Return ``value`` as plain JSON: NaN and infinities become None, dates ISO 8601, bytes a note of their length.

    Raises RecursionError beyond ``DEEPEST`` levels.
    """
    if depth > DEEPEST:
        raise RecursionError("nested too deeply")
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(entry, depth + 1) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry, depth + 1) for entry in value]
    if isinstance(value, bytes | bytearray):
        return f"<{len(value)} bytes>"
    if hasattr(value, "isoformat"):
        return value.isoformat()
    return str(value)
