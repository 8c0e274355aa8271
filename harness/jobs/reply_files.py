"""Read and check replies generated outside the harness, or by another run, and write them into a run folder."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.files import write_rows
from harness.jobs.reply_shapes import FINISH, Finish, ReplyColumns, ReplyShape, shape_of
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, ReplyRow

KEYS = ("id", "reference", "reply", "prompt", "conversation", "finish")
SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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
    reference: tuple[str, ...]  # several if there are several right replies
    reply: str | None
    prompt: str | None
    conversation: str | None
    finish: Finish | None
    columns: Mapping[str, Any]


def read_replies(files: Mapping[str, Path | str], columns: ReplyColumns | None = None) -> ReadReplies:
    """Read each system's file and check that all answer the same dialogues; nothing is written.

    ``files`` maps a system's name to its JSONL file: lines with ``id``, ``reference`` (a text or several), ``reply``
    and optionally ``prompt``, ``conversation`` and ``finish``; other keys are kept as columns. ``columns`` names other
    keys. Files of LLaMA-Factory and lm-evaluation-harness are recognised; RUN:VARIANT and a run's
    ``replies/VARIANT.jsonl`` are the replies of that run. A ``reply`` of null, or a dialogue that only other systems
    have, counts as unanswered. Raises InputError with file and line for anything unusable.
    """
    if not files:
        raise InputError("No replies were given. Pass at least one file as NAME=FILE.jsonl.")
    systems: dict[str, dict[str, _Line]] = {}
    for name, path in files.items():
        if not SYSTEM_NAME.fullmatch(name) or name.endswith((".", "-")):
            raise InputError(f"'{name}' is not a valid system name: use at most 64 letters, digits, '.', '_' and '-'.")
        systems[name] = _read(Path(path), columns)
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
    return ReplyRow(id=dialogue.id, reply=line.reply, finish=line.finish)


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
            for key in ("reference", "prompt", "conversation"):
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
            reference=line.reference[0],
            further_references=line.reference[1:],
            conversation=line.conversation,
            columns={key: value for key, value in columns[id].items() if key not in own},
        )
        for id, (_, line) in first.items()
    ]


def _read(path: Path, columns: ReplyColumns | None) -> dict[str, _Line]:
    found = run_and_variant(path)
    lines = _of_a_run(*found) if found else _of_a_file(path, columns)
    by_id: dict[str, _Line] = {}
    for line in lines:
        if line.id in by_id:
            raise InputError(
                f"{path}, line {line.number}: the id '{line.id}' is already in line {by_id[line.id].number}. "
                "Make ids unique."
            )
        by_id[line.id] = line
    if not by_id:
        raise InputError(f"{path} contains no replies.")
    return by_id


def _of_a_run(folder: RunFolder, variant: str) -> Iterator[_Line]:
    """Return the replies of one variant of a run."""
    names = [str(one["name"]) for one in folder.read_manifest().variants]
    if variant not in names:
        raise InputError(f"{folder.root} has no variant '{variant}'.{did_you_mean(variant, names)}")
    dialogues = {row.id: row for row in folder.dialogues()}
    for number, row in enumerate(folder.replies(variant), 1):
        dialogue = dialogues[row.id]
        if dialogue.reference is not None:
            yield _Line(
                number=number,
                id=row.id,
                reference=(dialogue.reference, *dialogue.further_references),
                reply=row.raw or row.reply,
                prompt=dialogue.prompt,
                conversation=dialogue.conversation,
                finish=row.finish,
                columns=dialogue.columns,
            )


def run_and_variant(path: Path) -> tuple[RunFolder, str] | None:
    """Return the run folder and the variant that ``RUN:VARIANT`` or a run's own file of replies names, or None."""
    if path.parent.name == "replies" and (path.parent.parent / "run.json").is_file():
        return RunFolder(path.parent.parent), path.stem
    root, separator, variant = str(path).rpartition(":")
    if separator and not path.exists() and (Path(root) / "run.json").is_file():
        return RunFolder(Path(root)), variant
    return None


def _of_a_file(path: Path, columns: ReplyColumns | None) -> Iterator[_Line]:
    shape: ReplyShape | None = None
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if not raw.strip():
                    continue
                where = f"{path}, line {number}"
                value = _object(raw, where, number)
                shape = shape or shape_of(value, columns)
                yield _line(shape, value, where, number)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def _object(raw: bytes, where: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_refuse)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not valid UTF-8.") from error
    except RecursionError as error:
        raise InputError(f"{where}: not valid JSON (nested too deeply).") from error
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON ({error}).") from error
    if not isinstance(value, dict):
        raise InputError(f"{where}: expected an object with id, reference and reply.")
    return value


def _line(shape: ReplyShape, value: dict[str, Any], where: str, number: int) -> _Line:
    said, columns = shape.read(value, number)
    for key in ("id", "reference", "reply"):
        if key not in said:
            named = shape.keys[key]
            raise InputError(f"{where}: the key '{named}' is missing.{did_you_mean(named, map(str, value))}")
    id = said["id"]
    if isinstance(id, bool) or not isinstance(id, str | int) or id == "":
        raise InputError(f"{where}: 'id' must be a string or an integer.")
    references = said["reference"] if isinstance(said["reference"], list) else [said["reference"]]
    if not references or not all(isinstance(one, str) for one in references):
        raise InputError(f"{where}: '{shape.keys['reference']}' must be a string or a list of strings.")
    for key in ("reply", "prompt"):
        if not isinstance(said.get(key), str | None):
            raise InputError(f"{where}: '{shape.keys[key]}' must be a string.")
    conversation = said.get("conversation")
    if isinstance(conversation, bool) or not isinstance(conversation, str | int | None):
        raise InputError(f"{where}: '{shape.keys['conversation']}' must be a string or an integer.")
    return _Line(
        number,
        str(id),
        tuple(dict.fromkeys(references)),
        said["reply"],
        said.get("prompt"),
        None if conversation is None else str(conversation),
        _finish(said.get("finish"), where),
        columns,
    )


def _finish(value: object, where: str) -> Finish | None:
    if value is None:
        return None
    if not isinstance(value, str) or value not in FINISH:
        raise InputError(f"{where}: 'finish' is {value!r:.40}, but must be eos, stop or length.")
    return FINISH[value]
