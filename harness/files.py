"""Files written so that a reader sees the old text or the new one, and rows of JSON lines as typed models."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError, InputError


class Row(BaseModel):
    """A line of a JSONL file. Keys unknown to this version are kept, so that newer folders stay readable."""

    model_config = ConfigDict(extra="allow", frozen=True)


AnyRow = TypeVar("AnyRow", bound=Row)


def read_rows(model: type[AnyRow], path: Path, *, torn_tail: Literal["error", "ignore"] = "error") -> Iterator[AnyRow]:
    """Yield the rows of a JSONL file.

    Raises InputError naming file and line for a line that is not the model. With ``torn_tail="ignore"`` a last line
    without its newline (a writer was killed in the middle of it) is passed over.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if torn_tail == "ignore" and not line.endswith(b"\n"):
                    return
                if not line.strip():
                    continue
                try:
                    yield model.model_validate(json.loads(line))
                except (ValidationError, ValueError, RecursionError) as error:
                    raise InputError(f"{path}, line {number}: not a {model.__name__} ({_short(error)}).") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def dump_row(row: BaseModel) -> str:
    """Return one JSON line (no newline), ASCII only so that lone surrogates survive the way to disk and back."""
    return json.dumps(row.model_dump(mode="python", by_alias=True), ensure_ascii=True, allow_nan=False, default=list)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace ``path`` in one step: a reader sees the old text or the new one, and a full disk keeps the old."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8", errors="surrogatepass", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise HarnessError(f"Cannot write {path}: {error.strerror}. Nothing was changed.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a model as indented JSON, atomically."""
    write_json(path, model.model_dump(mode="python", by_alias=True))


def write_json(path: Path, value: Any) -> None:
    """Write a JSON value, indented, atomically."""
    write_text_atomically(path, json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False, default=list) + "\n")


def write_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write a whole JSONL file, atomically."""
    write_text_atomically(path, "".join(dump_row(row) + "\n" for row in rows))


def read_model(model: type[AnyRow], path: Path) -> AnyRow:
    """Return a JSON file as the model; raise InputError for one that cannot be read or is another's."""
    try:
        return model.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except InputError as refused:  # by the model itself
        raise InputError(f"{path} {refused}") from None
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or of another version ({_short(error)}).") from error


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return str(error).splitlines()[0][:120]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
