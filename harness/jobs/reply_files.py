"""Read and check replies generated outside the harness, and write them into a run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.files import write_rows
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, ReplyRow

SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
KEYS = ("id", "reference", "reply", "prompt")


@dataclass(frozen=True)
class ReadReplies:
    """Validated replies: the dialogues of all systems, each system's replies in that order, how many are missing."""

    dialogues: tuple[DialogueRow, ...]
    replies: Mapping[str, tuple[ReplyRow, ...]]
    missing: Mapping[str, int]

    def write(self, out: RunFolder) -> None:
        """Write ``dialogues.jsonl`` and each system's unscored ``replies/NAME.jsonl``."""
        write_rows(out.dialogues_path, self.dialogues)
        for name, rows in self.replies.items():
            write_rows(out.replies_path(name), rows)


@dataclass(frozen=True)
class _Line:
    number: int
    id: str
    reference: str
    reply: str | None
    prompt: str | None
    columns: Mapping[str, Any]


def read_replies(files: Mapping[str, Path | str]) -> ReadReplies:
    """Read each system's file and check that all answer the same dialogues; nothing is written.

    ``files`` maps a system's name to its JSONL file: lines with ``id``, ``reference``, ``reply`` and optionally
    ``prompt``; other keys are kept as columns. A ``reply`` of null, or a dialogue that only other systems have, counts
    as unanswered. Raises InputError with file and line for anything unusable.
    """
    if not files:
        raise InputError("No replies were given. Pass at least one file as NAME=FILE.jsonl.")
    systems: dict[str, dict[str, _Line]] = {}
    for name, path in files.items():
        if not SYSTEM_NAME.fullmatch(name) or name.endswith((".", "-")):
            raise InputError(f"'{name}' is not a valid system name: use at most 64 letters, digits, '.', '_' and '-'.")
        systems[name] = _read(Path(path))
    dialogues = _merge(systems, {name: Path(path) for name, path in files.items()})
    return ReadReplies(
        dialogues=tuple(dialogues),
        replies={
            name: tuple(_reply(dialogue, lines.get(dialogue.id)) for dialogue in dialogues)
            for name, lines in systems.items()
        },
        missing={name: sum(d.id not in lines for d in dialogues) for name, lines in systems.items()},
    )


def _reply(dialogue: DialogueRow, line: _Line | None) -> ReplyRow:
    if line is None:
        return ReplyRow(id=dialogue.id, error="no reply in the file")
    if line.reply is None:
        return ReplyRow(id=dialogue.id, error="the reply is null")
    return ReplyRow(id=dialogue.id, reply=line.reply)


def _merge(systems: Mapping[str, Mapping[str, _Line]], paths: Mapping[str, Path]) -> list[DialogueRow]:
    """Return the dialogues of all systems, in the order of the first file; refuse contradictory systems.

    A column belongs to a dialogue only if all systems agree on it (a key such as "model" belongs to a system).
    """
    first: dict[str, tuple[str, _Line]] = {}
    columns: dict[str, dict[str, Any]] = {}
    prompts: dict[str, str] = {}
    own: set[str] = set()
    for name, lines in systems.items():
        for id, line in lines.items():
            other, known = first.setdefault(id, (name, line))
            for key in ("reference", "prompt"):
                mine, theirs = getattr(line, key), getattr(known, key)
                if mine is not None and theirs is not None and mine != theirs:
                    raise InputError(
                        f"{paths[name]}, line {line.number}: the {key} of '{id}' differs from that in "
                        f"{paths[other]}, line {known.number}. All systems must answer the same dialogues."
                    )
            if line.prompt is not None:
                prompts[id] = line.prompt
            merged = columns.setdefault(id, {})
            for key, value in line.columns.items():
                if key in merged and merged[key] != value:
                    own.add(key)
                merged.setdefault(key, value)
    return [
        DialogueRow(
            id=id,
            prompt=prompts.get(id, ""),
            reference=line.reference,
            columns={key: value for key, value in columns[id].items() if key not in own},
        )
        for id, (_, line) in first.items()
    ]


def _read(path: Path) -> dict[str, _Line]:
    lines: dict[str, _Line] = {}
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.strip():
                    continue
                line = _parse(raw, f"{path}, line {number}", number)
                if line.id in lines:
                    earlier = lines[line.id].number
                    raise InputError(
                        f"{path}, line {number}: the id '{line.id}' is already in line {earlier}. Make ids unique."
                    )
                lines[line.id] = line
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    if not lines:
        raise InputError(f"{path} contains no replies.")
    return lines


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def _parse(raw: bytes, where: str, number: int) -> _Line:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8.") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object with id, reference and reply.")
    for key in KEYS[:3]:
        if key not in value:
            raise InputError(f"{where}: the key '{key}' is missing.{did_you_mean(key, map(str, value))}")
    id = value["id"]
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise InputError(f"{where}: 'id' must be a string or an integer.")
    if not isinstance(value["reference"], str):
        raise InputError(f"{where}: 'reference' must be a string.")
    for key in ("reply", "prompt"):
        if not isinstance(value.get(key), str | None):
            raise InputError(f"{where}: '{key}' must be a string.")
    columns = {str(key): content for key, content in value.items() if key not in KEYS}
    return _Line(number, str(id), value["reference"], value["reply"], value.get("prompt"), columns)
