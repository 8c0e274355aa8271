"""The turns of a dialogue: valid text, speakers, what was said so far, and which turn is the reference."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Role = Literal["system", "patient", "doctor"]

# In the languages of the data sets named in docs/data.md; "question" and "answer" are speakers too there.
_ROLES: dict[str, Role] = {
    **dict.fromkeys(("system", "developer", "系统"), "system"),
    **dict.fromkeys(("patient", "user", "human", "client", "question", "q", "guest_family"), "patient"),
    **dict.fromkeys(("病人", "患者", "用户", "问", "提问", "مريض", "المريض", "سؤال", "السؤال"), "patient"),
    **dict.fromkeys(("doctor", "physician", "assistant", "gpt", "bot", "model"), "doctor"),
    **dict.fromkeys(("answer", "a", "guest_clinician"), "doctor"),
    **dict.fromkeys(("医生", "大夫", "医师", "助手", "答", "回答"), "doctor"),
    **dict.fromkeys(("طبيب", "الطبيب", "دكتور", "جواب", "الجواب"), "doctor"),
}
_SPEAKERS: dict[Role, str] = {"system": "Note", "patient": "Patient", "doctor": "Doctor"}
_NUMBER = re.compile(r"_?\d+$")  # "Doctor_2" is a doctor


@dataclass(frozen=True)
class Turn:
    """What one speaker said."""

    role: Role
    content: str


def role_of(word: object) -> Role | None:
    """Return the role that a word names, or None."""
    return _ROLES.get(_NUMBER.sub("", word.strip().lower())) if isinstance(word, str) else None


def join_turns(turns: Iterable[Turn]) -> tuple[Turn, ...]:
    """Return the turns with consecutive ones of the same speaker joined by a line break."""
    joined: list[Turn] = []
    for turn in turns:
        if joined and joined[-1].role == turn.role:
            joined[-1] = Turn(turn.role, f"{joined[-1].content}\n{turn.content}")
        else:
            joined.append(turn)
    return tuple(joined)


def split_turns(joined: tuple[Turn, ...], column: str, need_reference: bool) -> tuple[tuple[Turn, ...], str | None]:
    """Return the turns before the doctor's last turn, and that turn as the reference.

    If no reference is needed and the last turn is the patient's, return all turns and None.
    """
    if not need_reference and joined and joined[-1].role == "patient":
        return joined, None
    last = max((index for index, turn in enumerate(joined) if turn.role == "doctor"), default=None)
    if last is None:
        raise InvalidRowError("missing reference", column, "the doctor has no turn, so there is no reference")
    so_far = joined[:last]
    if not any(turn.role == "patient" for turn in so_far):
        raise InvalidRowError("missing prompt", column, "the patient says nothing before the doctor's last turn")
    return so_far, joined[last].content


def ask(joined: tuple[Turn, ...], column: str) -> tuple[Turn, ...]:
    """Return turns that are the whole prompt, because another column has the reference: the patient speaks last."""
    if not any(turn.role == "patient" for turn in joined):
        raise InvalidRowError("missing prompt", column, "the patient says nothing")
    if joined[-1].role == "doctor":
        problem = "the doctor has the last turn, although another column has the reference"
        raise InvalidRowError("answered prompt", column, problem)
    return joined


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
        if "\udc80" <= found[0] <= "\udcff":  # a byte that was not UTF-8
            problem += "; if the file has another encoding, name it in dialogues.encoding (Excel: cp1252)"
        raise InvalidRowError(f"invalid characters in {what}", column, problem)
    return text
