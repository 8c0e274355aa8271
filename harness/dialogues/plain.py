"""Values of foreign columns as plain JSON: what a run folder can hold and any other program can read."""

from __future__ import annotations

import math
from typing import Any


def plain(value: Any) -> Any:
    """Return ``value`` made of dicts, lists, texts, whole and finite numbers, booleans and None.

    NaN and infinities become None, dates ISO 8601 texts, and bytes a note of their length.
    """
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
