"""How turns are written in a column: the shapes that data sets have for them, read into ``Turn``.

- objects: ``{"role": …, "content": …}``, ``{"from": …, "value": …}``, ``{"speaker": …, "utterance": …}``, or one object
  of lists, as columnar storage writes them; the content is text or a list of text parts (``{"type": "text"}``);
- strings that name their speaker: ``"patient: …"``, ``"问：…"``;
- one text: a JSON list, Llama-2's ``[INST]``, ChatML, or a transcript whose lines name the speakers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator

from harness.dialogues.turns import InvalidRowError, Turn, clean_text, role_of

_ROLE_KEYS = ("role", "from", "speaker")
_CONTENT_KEYS = ("content", "value", "utterance", "text")
_CLASS_LABELS = ("patient", "doctor")  # MedDialog's speakers where they are stored as numbers
_SPOKEN = re.compile(r"[ \t]*(\w[\w ]{0,30}?)[ \t]*[:：][ \t]*")
_JSON = re.compile(r'\s*\[\s*[{"]')
_CHATML = re.compile(r"<\|im_start\|>[ \t]*(\w+)[ \t]*\n(.*?)(?:<\|im_end\|>|\Z)", re.DOTALL)
_INSTRUCTION = re.compile(r"\[INST\](.*?)\[/INST\](.*?)(?=\[INST\]|\Z)", re.DOTALL)
_SYSTEM = re.compile(r"\s*<<SYS>>(.*?)<</SYS>>", re.DOTALL)

Said = tuple[object, object]  # speaker and content, neither of them checked


def looks_like_turns(value: object) -> bool:
    """Return whether a value has one of the shapes, judged by its first turn."""
    if isinstance(value, str):
        return _is_marked_up(value) or _JSON.match(value) is not None or _speaker(value.lstrip()) is not None
    turns = _rows(value)
    if not isinstance(turns, list) or not turns:
        return False
    first = turns[0]
    if isinstance(first, dict):
        return _key(first, _ROLE_KEYS) is not None and _key(first, _CONTENT_KEYS) is not None
    return isinstance(first, str) and _speaker(first) is not None


def read_turns(value: object, column: str) -> Iterator[Turn]:
    """Yield the turns of a row; raise InvalidRowError at the first invalid one."""
    said = _in_text(value, column) if isinstance(value, str) else _in_rows(_rows(value), column)
    for number, (role, content) in enumerate(said, 1):
        known = role_of(role)
        if known is None:
            problem = f"turn {number} has the role {role!r:.40}; the roles are patient, doctor and system"
            raise InvalidRowError("unknown role", column, problem)
        text = _text_of_parts(content, column, number)
        yield Turn(known, clean_text(text, column, "turn", f"content of turn {number}"))


def read_history(value: object, column: str) -> Iterator[Turn]:
    """Yield earlier turns, which may also be written as pairs of what the patient and the doctor said."""
    if isinstance(value, str):
        value = _json(value, column)
    if isinstance(value, list) and value and all(isinstance(each, list | tuple) and len(each) == 2 for each in value):
        value = [
            {"role": role, "content": content}
            for pair in value
            for role, content in zip(("patient", "doctor"), pair, strict=True)
        ]
    yield from read_turns(value, column)


def _rows(value: object) -> object:
    """Return a list of objects for an object of lists."""
    if isinstance(value, dict) and value and all(isinstance(entry, list) for entry in value.values()):
        return [dict(zip(value, entries, strict=False)) for entries in zip(*value.values(), strict=False)]
    return value


def _in_rows(turns: object, column: str) -> Iterator[Said]:
    if not isinstance(turns, list):
        raise InvalidRowError("malformed turns", column, "the turns are not a list")
    for number, turn in enumerate(turns, 1):
        if isinstance(turn, dict):
            role, content = _key(turn, _ROLE_KEYS), _key(turn, _CONTENT_KEYS)
            named = turn[role] if role else None
            if role == "speaker" and isinstance(named, int) and 0 <= named < len(_CLASS_LABELS):
                named = _CLASS_LABELS[named]
            yield named, turn[content] if content else None
        elif isinstance(turn, str):
            spoken = _speaker(turn)
            if spoken is None:
                problem = f"turn {number} does not begin with a speaker such as 'patient:'"
                raise InvalidRowError("unknown role", column, problem)
            yield spoken[1], turn[spoken.end() :]
        else:
            problem = f"turn {number} is not an object with role and content"
            raise InvalidRowError("malformed turns", column, problem)


def _in_text(text: str, column: str) -> Iterable[Said]:
    if _is_marked_up(text):
        read, outside = _chatml(text) if "<|im_start|>" in text else _instructions(text)
        if outside or not read:
            problem = "text stands outside the marks of the turns" if outside else "the marks of a turn are incomplete"
            raise InvalidRowError("malformed turns", column, problem)
        return read
    if _speaker(text.lstrip()) is None:
        return _in_rows(_rows(_json(text, column)), column)
    said: list[tuple[str, str]] = []
    for line in text.strip().splitlines():
        spoken = _speaker(line)
        if spoken:
            said.append((spoken[1], line[spoken.end() :]))
        else:
            said[-1] = (said[-1][0], f"{said[-1][1]}\n{line}")
    return said


def _json(text: str, column: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        problem = "the turns are not valid JSON, and no text that names its speakers"
        raise InvalidRowError("malformed turns", column, problem) from None


def _is_marked_up(text: str) -> bool:
    return "<|im_start|>" in text or "[INST]" in text


def _chatml(text: str) -> tuple[list[Said], str]:
    """Return the turns of a ChatML text, and what stands outside them."""
    return list(_CHATML.findall(text)), _bare(_CHATML.sub("", text))


def _instructions(text: str) -> tuple[list[Said], str]:
    """Return the turns of a text in Llama-2's form, and what stands before the first."""
    said: list[Said] = []
    for asked, answered in _INSTRUCTION.findall(text):
        system = _SYSTEM.match(asked)
        if system:
            said.append(("system", system[1]))
        said.append(("user", asked[system.end() :] if system else asked))
        if _bare(answered):
            said.append(("assistant", _bare(answered)))
    return said, _bare(text.partition("[INST]")[0])


def _bare(text: str) -> str:
    """Return the text without ``<s>`` and ``</s>`` at its ends."""
    while True:
        shorter = text.strip().removeprefix("<s>").removesuffix("</s>").removesuffix("<s>")
        if shorter == text:
            return text
        text = shorter


def _speaker(text: str) -> re.Match[str] | None:
    spoken = _SPOKEN.match(text)
    return spoken if spoken and role_of(spoken[1]) else None


def _key(turn: dict[str, object], names: tuple[str, ...]) -> str | None:
    return next((name for name in names if name in turn), None)


def _text_of_parts(content: object, column: str, number: int) -> object:
    """Return the text of a content that is a list of parts; any other content as it is."""
    if not isinstance(content, list) or not content:
        return content
    texts = []
    for part in content:
        text = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else None
        if not isinstance(text, str):
            problem = f"the content of turn {number} has a part that is not text ({part!r:.60})"
            raise InvalidRowError("non-text turn", column, problem)
        texts.append(text)
    return "\n".join(texts)
