"""Files and folders: read with clear errors, written atomically, digested.

JSON files become values or models, JSONL files rows. The ``digest_*`` functions return SHA-256 in hex.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.errors import HarnessError, InputError, first_line

# What write_bytes_atomically calls its temporary files: tempfile's eight characters after a file's name.
_LEFTOVER = re.compile(r"\..+\.(json|jsonl|html|md|xml|csv|yaml|txt)\.[a-z0-9_]{8}")
_held: set[Path] = set()  # the lock files of this process


class Row(BaseModel):
    """A line of a JSONL file. Unknown keys are kept, so that newer folders stay readable."""

    model_config = ConfigDict(extra="allow", frozen=True)


AnyRow = TypeVar("AnyRow", bound=Row)
AnyModel = TypeVar("AnyModel", bound=BaseModel)


def read_rows(
    model: type[AnyRow], path: Path, *, torn_tail: Literal["error", "ignore"] = "error", head: int = 0
) -> Iterator[AnyRow]:
    """Yield the rows of a JSONL file after its first ``head`` lines.

    Raises InputError with file and line for a line that does not validate. With ``torn_tail="ignore"``, a last line
    without a newline (its writer was killed) is ignored.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if torn_tail == "ignore" and not line.endswith(b"\n"):
                    return
                if number > head and line.strip():
                    yield row_of(model, line, path, number)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def row_of(model: type[AnyRow], line: bytes, path: Path, number: int) -> AnyRow:
    """Return one line of a JSONL file as a row; raise InputError, naming file and line, if it does not validate."""
    try:
        return model.model_validate(json.loads(line))
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {number}: not a {model.__name__} ({_short(error)}).") from error


def dump_row(row: BaseModel) -> str:
    """Return one JSON line (no newline), ASCII only so that lone surrogates survive the round trip to disk."""
    return json.dumps(row.model_dump(mode="python", by_alias=True), ensure_ascii=True, allow_nan=False, default=list)


def write_text_atomically(path: Path, text: str) -> None:
    """Replace ``path`` in one step: readers see the old text or the new one, and a full disk keeps the old."""
    write_bytes_atomically(path, text.encode("utf-8", errors="surrogatepass"))


def write_bytes_atomically(path: Path, data: bytes) -> None:
    """Like ``write_text_atomically``, for bytes."""
    with replacing(path) as file:
        file.write(data)


@contextmanager
def replacing(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that replaces ``path`` in one step if the block succeeds, and is removed if it fails."""
    if path.is_dir():
        raise InputError(f"{path} is a folder; give a file.")
    refuse_deleted(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        mask = os.umask(0)
        os.umask(mask)
        Path(temporary).chmod(0o666 & ~mask)
        Path(temporary).replace(path)
        temporary = None
    except OSError as error:
        raise HarnessError(f"Cannot write {path}: {error.strerror}. The file was not changed.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def write_model(path: Path, model: BaseModel) -> None:
    """Write a model as indented JSON, atomically."""
    write_bytes_atomically(path, model_bytes(model))


def model_bytes(model: BaseModel) -> bytes:
    """Return what ``write_model`` writes."""
    return _json_bytes(model.model_dump(mode="python", by_alias=True))


def write_json(path: Path, value: object) -> None:
    """Write a JSON value, indented, atomically."""
    write_bytes_atomically(path, _json_bytes(value))


def _json_bytes(value: object) -> bytes:
    return (json.dumps(value, indent=1, ensure_ascii=True, allow_nan=False, default=list) + "\n").encode("ascii")


def write_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write a whole JSONL file, atomically."""
    with replacing(path) as file:
        for row in rows:
            file.write(row_line(row))


def row_line(row: BaseModel) -> bytes:
    """Return a row as a line of a JSONL file."""
    return dump_row(row).encode("ascii") + b"\n"


def read_model(model: type[AnyModel], path: Path) -> AnyModel:
    """Return a JSON file as a ``model``; raise InputError if it cannot be read or does not validate."""
    data = read_bytes(path)
    try:
        return model.model_validate(json.loads(data.decode()))
    except InputError as refused:  # by the model itself
        raise InputError(f"{path} {refused}") from None
    except (ValidationError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged or was written by another version ({_short(error)}).") from error


def read_json(path: Path, *, missing: str | None = None) -> dict[str, Any]:
    """Return a JSON object from a file; raise InputError (with the message ``missing`` if there is no such file)."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(missing or f"There is no file {path}.") from error
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not valid JSON ({first_line(error)}).") from error
    if not isinstance(value, dict):
        raise InputError(f"{path}: expected an object, found {type(value).__name__}.")
    return value


def read_bytes(path: Path) -> bytes:
    """Return the file's bytes; raise InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def user_cache() -> Path | None:
    """Return the folder for what can be found again at any time, or None if the user wants none.

    ``HARNESS_CACHE`` names it (``off``: none); the default is ``medical-dialogue-harness`` in the user's cache.
    """
    named = os.environ.get("HARNESS_CACHE")
    if named:
        return None if named == "off" else Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "medical-dialogue-harness"


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 (hex) of ``data``."""
    return hashlib.sha256(data).hexdigest()


def digest_value(value: object) -> str:
    """Return the SHA-256 (hex) of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return digest_bytes(text.encode("ascii"))


def digest_file(path: Path | str) -> str:
    """Return the SHA-256 (hex) of a file's bytes; raise InputError if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


@contextmanager
def locked(lock_file: Path, busy: str, *, wait: float = 0.0) -> Iterator[None]:
    """Lock out other processes with a lock file, creating its folder.

    Raises InputError(``busy``) if it is still held after ``wait`` seconds.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(lock_file, timeout=wait)
    try:
        lock_file.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise InputError(busy) from error
    except OSError as error:
        raise InputError(f"Cannot write to {lock_file.parent}: {error.strerror or error}.") from error
    held = lock_file.absolute()
    _held.add(held)
    try:
        yield
    finally:
        _held.discard(held)
        lock.release()


def refuse_deleted(path: Path) -> None:
    """Raise HarnessError if ``path`` is in a folder that this process has locked and someone has deleted since.

    Writing would create the folder again, with a part of what belongs into it.
    """
    for lock_file in _held:
        if path.absolute().is_relative_to(lock_file.parent) and not lock_file.exists():
            raise HarnessError(f"{lock_file.parent} was deleted during this run. Run the same command to start again.")


def remove_leftovers(*folders: Path) -> None:
    """Remove the temporary files that killed writers left; nobody else may be writing to these folders."""
    for folder in folders:
        for path in folder.glob(".*") if folder.is_dir() else ():
            if _LEFTOVER.fullmatch(path.name) and path.is_file():
                path.unlink()


@contextmanager
def replace_folder(place: Path) -> Iterator[Path]:
    """Yield an empty folder that becomes ``place`` if the block succeeds and is removed if it fails."""
    refuse_deleted(place)
    partial = place.with_name(f".{place.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
    except OSError as error:
        raise InputError(f"Cannot create {partial}: {error.strerror}.") from error
    try:
        yield partial
        move_into_place(partial, place)
    except OSError as error:
        raise HarnessError(
            f"Cannot write {place}: {error.strerror or error}. Free some space and run it again."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def move_into_place(finished: Path, place: Path) -> None:
    """Move a finished folder to ``place``; an existing one is kept as ``.NAME.previous`` meanwhile."""
    previous = place.with_name(f".{place.name}.previous")
    if place.exists():
        shutil.rmtree(previous, ignore_errors=True)
        place.rename(previous)
    finished.rename(place)
    shutil.rmtree(previous, ignore_errors=True)


def _short(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"])))
    return first_line(error, 120)
