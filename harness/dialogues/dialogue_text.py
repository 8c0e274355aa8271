"""What a text of a dialogue may be, and how it is written: the rules that ``dialogues`` states."""

from __future__ import annotations

import re
from typing import Any

LONGEST = 1_000_000  # characters; beyond any context, and tokenizing it would only take minutes
NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # NUL, and halves of surrogate pairs


class InvalidRowError(Exception):
    """A row that is no dialogue: what to count it as, in which column, and what is wrong."""

    def __init__(self, reason: str, column: str | None, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.column = column
        self.problem = problem


def clean_text(value: Any, column: str, what: str, shown_as: str | None = None) -> str:
    """Return a text as it is used, or raise for what is none; ``what`` is counted, ``shown_as`` is in the message."""
    shown = shown_as or what
    if value is None:
        raise InvalidRowError(f"missing {what}", column, f"the {shown} is missing")
    if not isinstance(value, str):
        raise InvalidRowError(f"non-text {what}", column, f"the {shown} is not a text but {value!r:.60}")
    text = value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise InvalidRowError(f"empty {what}", column, f"the {shown} is empty")
    if len(text) > LONGEST:
        raise InvalidRowError(
            f"too long {what}", column, f"the {shown} has {len(text):,} characters, above {LONGEST:,}"
        )
    found = NOT_TEXT.search(text)
    if found:
        kind = "a NUL character" if found[0] == "\x00" else "bytes or escapes that are not Unicode text"
        problem = f"the {shown} holds {kind} at character {found.start() + 1}"
        raise InvalidRowError(f"invalid characters in {what}", column, problem)
    return text
