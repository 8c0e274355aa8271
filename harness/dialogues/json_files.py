"""Rows of JSON: lines of objects, arrays of objects with the line of each, and tables written as one object."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.dialogues.unpack import OTHER_ENCODING
from harness.errors import InputError, did_you_mean

_BETWEEN = re.compile(r"[ \t\r\n,:]*")


@dataclass(frozen=True)
class SourceRow:
    """One row: its line (in Parquet files and tables its number, from 1) and its values, or why it cannot be read."""

    line: int
    values: dict[str, object]
    reason: str | None = None  # short, for counting
    problem: str | None = None  # a clause for the message


def read_json(path: Path, data: bytes, split: str | None) -> Iterator[SourceRow]:
    """Yield the rows of a JSON file: an array, an object that contains arrays of rows, or a table.

    An array is read element by element, so that each row has its line. Of several arrays ``split`` names one.
    """
    try:
        text = data.decode("utf-8")
        whole = json.loads(text)  # reports what is wrong and where, so that what follows can trust the text
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}, line {line}: not UTF-8 text; {OTHER_ENCODING}.") from error
    except json.JSONDecodeError as error:
        raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not JSON ({json_reason(error)}).") from error
    table = _table(whole) if isinstance(whole, dict) else None
    if table is not None or isinstance(whole, list):
        refuse_split(path, split)
    if table is not None:
        yield from (SourceRow(number, values) for number, values in enumerate(table, 1))
        return
    key = _split(whole, split, path) if isinstance(whole, dict) else None
    if not isinstance(whole, list) and key is None:
        raise InputError(f"{path}: expected a list of dialogues, or an object that contains one.")
    yield from _array(text, _skip(text, 0) if key is None else _value_of(text, key))


def is_lines(data: bytes) -> bool:
    """Return whether a ``.json`` file contains one object per line, as many do."""
    first, _, rest = data.lstrip().partition(b"\n")
    if not first.lstrip().startswith(b"{") or not rest.strip():
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def refuse_split(path: Path, split: str | None) -> None:
    """Raise InputError if a split was chosen of a file that has none; ``train``, once the default, is accepted."""
    if split not in (None, "train"):
        raise InputError(f"{path} has no splits of its own, so dialogues.hub_split: {split} cannot be used.")


def object_row(line: int, value: object) -> SourceRow:
    """Return a row for a JSON value, which should be an object."""
    if not isinstance(value, dict):
        return SourceRow(line, {}, "not an object", f"expected an object with columns, found {_kind(value)}")
    return SourceRow(line, value)


def json_reason(error: Exception) -> str:
    """Return why a text is not JSON, for use in brackets."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at column {error.colno}"
    return "nested too deeply" if isinstance(error, RecursionError) else str(error).split(":")[0]


def _table(whole: Mapping[str, object]) -> list[dict[str, object]] | None:
    """Return the rows of a table: an object of lists, or pandas' ``split``, ``columns`` or ``index`` form."""
    columns, data = whole.get("columns"), whole.get("data")
    if isinstance(columns, list) and isinstance(data, list) and all(isinstance(each, list) for each in data):
        return [dict(zip(map(str, columns), each, strict=False)) for each in data]
    values = list(whole.values())
    lists = [each for each in values if isinstance(each, list)]
    if lists and len(lists) == len(values) and len({len(each) for each in lists}) == 1 and not all(map(_rows, lists)):
        return [dict(zip(whole, each, strict=True)) for each in zip(*lists, strict=True)]
    objects = [each for each in values if isinstance(each, dict)]
    if len(objects) < 2 or len(objects) < len(values) or any(each.keys() != objects[0].keys() for each in objects):
        return None
    if all(key.isdecimal() for key in objects[0]):
        return [{column: each[key] for column, each in zip(whole, objects, strict=True)} for key in objects[0]]
    return objects if all(key.isdecimal() for key in whole) else None


def _rows(value: object) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], dict)


def _split(whole: Mapping[str, object], split: str | None, path: Path) -> str | None:
    """Return the key of the array to read; None if there is no array."""
    arrays = [key for key, value in whole.items() if isinstance(value, list)]
    filled = [key for key in arrays if _rows(whole[key])] or arrays[:1]
    if split in filled or (len(filled) < 2 and split in (None, "train")):
        return split if split in filled else next(iter(filled), None)
    held = ", ".join(
        f"{key} ({len(value)})" for key, value in whole.items() if key in filled and isinstance(value, list)
    )
    if split is None:
        raise InputError(f"{path} holds several lists of dialogues: {held}. Choose one with dialogues.hub_split.")
    raise InputError(
        f"{path} has no split '{split}' (dialogues.hub_split); it has {held or 'none'}.{did_you_mean(split, filled)}"
    )


def _array(text: str, at: int) -> Iterator[SourceRow]:
    """Yield the elements of the array that starts at ``at`` in a valid JSON text."""
    decoder = json.JSONDecoder()
    counted, line = 0, 1
    at = _skip(text, at + 1)
    while text[at] != "]":
        line, counted = line + text.count("\n", counted, at), at
        value, at = decoder.raw_decode(text, at)
        yield object_row(line, value)
        at = _skip(text, at)


def _value_of(text: str, key: str) -> int:
    """Return where the value of a key starts in the object of a valid JSON text; of a repeated key, the last."""
    decoder = json.JSONDecoder()
    found = -1
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] == '"':
        name, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
        found = at if name == key else found
        _, at = decoder.raw_decode(text, at)
        at = _skip(text, at)
    return found


def _skip(text: str, at: int) -> int:
    """Return where the next value, key or closing bracket starts."""
    match = _BETWEEN.match(text, at)
    return match.end() if match else at


def _kind(value: object) -> str:
    names = {list: "a list", str: "a string", bool: "true or false", int: "a number", float: "a number"}
    return names.get(type(value), "nothing" if value is None else type(value).__name__)
