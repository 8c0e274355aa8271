"""What differs between two configs of runs, by dotted keys: ``generation.max_new_tokens: 64 → 128``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_LONGEST = 60  # characters of a value that are shown
_SECRET = re.compile(r"(^|[_.-])(key|token|secret|password|credentials?)([_.-]|$)", re.IGNORECASE)
_USER = re.compile(r"(?<=://)[^/@\s]+(?=@)")


@dataclass(frozen=True)
class ConfigChange:
    """A setting with its values as text; long ones are shortened, and those of keys and passwords are left out."""

    key: str
    before: str
    after: str

    def __str__(self) -> str:
        """Return ``KEY: BEFORE → AFTER``, or the key alone if its values are not shown."""
        return f"{self.key}: {self.before} → {self.after}" if self.before != self.after else self.key


def config_changes(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[ConfigChange, ...]:
    """Return the settings that differ, in the order of the configs. One that is null, or absent, is ``not set``."""
    old, new = dotted(before), dotted(after)
    keys = dict.fromkeys([*old, *new])
    return tuple(
        ConfigChange(key, shown(key, old.get(key)), shown(key, new.get(key)))
        for key in keys
        if old.get(key) != new.get(key)
    )


def listed_changes(changes: Sequence[ConfigChange], most: int = 5) -> str:
    """Return the first changes on one line, and how many more there are."""
    more = [f"and {len(changes) - most} more"] if len(changes) > most else []
    return "; ".join([*map(str, changes[:most]), *more])


def dotted(settings: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return nested settings as one level; objects in a list are told apart by their ``name``."""
    found: dict[str, object] = {}
    for name, value in settings.items():
        key = f"{prefix}{name}"
        inner = _named(value)
        found |= dotted(inner, f"{key}.") if inner else {key: list(value) if isinstance(value, tuple) else value}
    return found


def _named(value: object) -> Mapping[str, object]:
    if isinstance(value, Mapping):
        return {str(key): inner for key, inner in value.items()}
    rows = value if isinstance(value, list | tuple) else ()
    named = {str(row["name"]): _without_name(row) for row in rows if isinstance(row, Mapping) and "name" in row}
    return named if len(named) == len(rows) else {}


def _without_name(row: Mapping[str, object]) -> dict[str, object]:
    return {str(key): value for key, value in row.items() if key != "name"}


def shown(key: str, value: object) -> str:
    """Return a setting's value as text of at most 60 characters, without what only its owner should see."""
    if value is None:
        return "not set"
    if _SECRET.search(key.rpartition(".")[2]):
        return "not shown"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
    text = " ".join(_USER.sub("…", text).split()) or "empty"
    half = _LONGEST // 2
    return text if len(text) <= _LONGEST else f"{text[:half].rstrip()}…{text[-half + 1 :].lstrip()}"
