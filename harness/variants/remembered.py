"""What was found in a file before, remembered as long as the file is the same by path, size, inode and time.

Within this process always; between processes in the user's cache (``HARNESS_CACHE``), with a file of its own for each
one remembered, so that runs side by side need no lock. A cache that cannot be read or written is not used.
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, InputError
from harness.files import digest_value, user_cache, write_text_atomically

# A file system may count in whole seconds, so a file may change once more without a change of its time.
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True)
class Identity:
    """What changes when a file is replaced or written to."""

    size: int
    inode: int
    mtime_ns: int

    @classmethod
    def of(cls, path: Path) -> Identity:
        """Return the file's identity; raise InputError if it cannot be read."""
        try:
            found = path.stat()
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from error
        return cls(found.st_size, found.st_ino, found.st_mtime_ns)


_known: dict[tuple[str, Path], tuple[Identity, Any]] = {}


def recall(kind: str, path: Path, identity: Identity) -> Any:
    """Return the JSON value remembered for a file that still has this identity, or None."""
    place = path.resolve()
    known = _known.get((kind, place))
    if known is not None and known[0] == identity:
        return known[1]
    file = _file(kind, place)
    if file is None:
        return None
    try:
        entry = json.loads(file.read_text(encoding="utf-8"))
        found = entry["found"] if entry["of"] == _stated(kind, place, identity) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
    _known[kind, place] = identity, found
    return found


def remember(kind: str, path: Path, identity: Identity, found: Any) -> None:
    """Remember a JSON value found in a file that had this identity."""
    place = path.resolve()
    _known[kind, place] = identity, found
    file = _file(kind, place)
    if file is None or time.time_ns() - identity.mtime_ns < _SETTLED_NS:
        return
    text = json.dumps({"of": _stated(kind, place, identity), "found": found})
    with suppress(HarnessError, OSError):  # with a read-only home, the next run only has to read the file again
        write_text_atomically(file, text)


def _file(kind: str, place: Path) -> Path | None:
    folder = user_cache()
    return None if folder is None else folder / "weights" / f"{digest_value([kind, str(place)])[:32]}.json"


def _stated(kind: str, place: Path, identity: Identity) -> list[Any]:
    return [kind, str(place), identity.size, identity.inode, identity.mtime_ns]
