"""The turns of a dialogue: valid text, speakers, what was said so far, and which turn is the reference."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "patient", "doctor"]

_ROLES: dict[str, Role] = {
    "system": "system",
    **dict.fromkeys(("patient", "user", "human", "client"), "patient"),
    **dict.fromkeys(("doctor", "physician", "assistant", "gpt", "bot", "model"), "doctor"),
}
_SPEAKERS: dict[Role, str] = {"system": "Note", "patient": "Patient", "doctor": "Doctor"}


@dataclass(frozen=True)
class Turn:
    """What one speaker said."""

    role: Role
    content: str


def read_turns(value: object, column: str) -> Iterator[Turn]:
    """Yield the turns of a row; raise InvalidRowError at the first invalid one."""
    if isinstance(value, str):  # as in CSV files
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidRowError("malformed turns", column, "the turns are not valid JSON") from None
    if isinstance(value, dict) and value and all(isinstance(entry, list) for entry in value.values()):
        # Columnar storage turns a list of objects into an object of lists.
        value = [dict(zip(value, entries, strict=False)) for entries in zip(*value.values(), strict=False)]
    if not isinstance(value, list):
        raise InvalidRowError("malformed turns", column, "the turns are not a list")
    for number, turn in enumerate(value, 1):
        if not isinstance(turn, dict):
            raise InvalidRowError("malformed turns", column, f"turn {number} is not an object with role and content")
        role = turn.get("role", turn.get("from"))
        content = turn.get("content", turn.get("value"))
        known = _ROLES.get(role.strip().lower()) if isinstance(role, str) else None
        if known is None:
            problem = f"turn {number} has the role {role!r:.40}; the roles are patient, doctor and system"
            raise InvalidRowError("unknown role", column, problem)
        yield Turn(known, clean_text(content, column, "turn", f"content of turn {number}"))


def split_turns(turns: Iterable[Turn], column: str, need_reference: bool) -> tuple[tuple[Turn, ...], str | None]:
    """Return the turns before the doctor's last turn, and that turn as the reference.

    If no reference is needed and the last turn is the patient's, return all turns and None.
    """
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = Turn(turn.role, f"{joined[-1].content}\n{turn.content}")
        else:
            joined.append(turn)
    if not need_reference and joined and joined[-1].role == "patient":
        return tuple(joined), None
    last = max((index for index, turn in enumerate(joined) if turn.role == "doctor"), default=None)
    if last is None:
        raise InvalidRowError("missing reference", column, "the doctor has no turn, so there is no reference")
    so_far = tuple(joined[:last])
    if not any(turn.role == "patient" for turn in so_far):
        raise InvalidRowError("missing prompt", column, "the patient says nothing before the doctor's last turn")
    return so_far, joined[last].content


def transcript(turns: tuple[Turn, ...]) -> str:
    """Return turns as one string that names the speakers if there is more than one turn."""
    if len(turns) == 1:
        return turns[0].content
    return "\n".join(f"{_SPEAKERS[turn.role]}: {turn.content}" for turn in turns)


LONGEST = 1_000_000  # characters; beyond any context, and slow to tokenize
NOT_TEXT = re.compile("[\x00\ud800-\udfff]")  # NUL and lone surrogates


class InvalidRowError(Exception):
    """A row that is not a valid dialogue: the reason to count, the column, and the problem."""

    def __init__(self, reason: str, column: str | None, problem: str) -> None:
        super().__init__(problem)
        self.reason = reason
        self.column = column
        self.problem = problem


def clean_text(value: object, column: str, what: str, shown_as: str | None = None) -> str:
    """Return cleaned text or raise InvalidRowError; ``what`` is counted, ``shown_as`` is in the message."""
    shown = shown_as or what
    if value is None:
        raise InvalidRowError(f"missing {what}", column, f"the {shown} is missing")
    if not isinstance(value, str):
        raise InvalidRowError(f"non-text {what}", column, f"the {shown} must be a string, not {value!r:.60}")
    text = value.replace("\r\n", "\n").replace("\r", "\n").strip()
    if not text:
        raise InvalidRowError(f"empty {what}", column, f"the {shown} is empty")
    if len(text) > LONGEST:
        raise InvalidRowError(
            f"too long {what}", column, f"the {shown} has {len(text):,} characters, more than {LONGEST:,}"
        )
    found = NOT_TEXT.search(text)
    if found:
        kind = "a NUL character" if found[0] == "\x00" else "bytes or escapes that are not Unicode text"
        problem = f"the {shown} contains {kind} at character {found.start() + 1}"
        raise InvalidRowError(f"invalid characters in {what}", column, problem)
    return text
