"""Read and check replies generated outside the harness, or by another run, and write them into a run folder.

Files are read twice, once to check and once to write, so that memory does not grow with their texts.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.files import replacing, row_line
from harness.jobs.reply_shapes import FINISH, Finish, ReplyColumns, ReplyShape, shape_of
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, ReplyRow

KEYS = ("id", "reference", "reply", "prompt", "conversation", "finish")
SYSTEM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


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


@dataclass(frozen=True)
class ReadReplies:
    """Validated replies, in their files: the ids of all systems' dialogues, and each system's lines by id.

    ``missing`` counts the dialogues that a system lacks; ``own`` are the columns that are a system's, not a dialogue's.
    """

    dialogues: tuple[str, ...]
    replies: Mapping[str, Mapping[str, _Line]]
    missing: Mapping[str, int]
    own: frozenset[str]

    def write(self, out: RunFolder) -> None:
        """Write ``dialogues.jsonl`` and each system's unscored ``replies/NAME.jsonl``."""
        with ExitStack() as files:
            dialogues = files.enter_context(replacing(out.dialogues_path))
            replies = {name: files.enter_context(replacing(out.replies_path(name))) for name in self.replies}
            for id in self.dialogues:
                lines = {name: of.get(id) for name, of in self.replies.items()}
                dialogues.write(row_line(self._dialogue([line for line in lines.values() if line is not None])))
                for name, line in lines.items():
                    replies[name].write(row_line(_reply(id, line)))

    def _dialogue(self, lines: Sequence[_Line]) -> DialogueRow:
        columns: dict[str, Any] = {}
        for line in reversed(lines):
            columns = {**line.columns, **columns}
        prompts = [line.prompt for line in lines if line.prompt is not None]
        return DialogueRow(
            id=lines[0].id,
            prompt=prompts[-1] if prompts else "",
            reference=lines[0].reference[0],
            further_references=lines[0].reference[1:],
            conversation=lines[0].conversation,
            columns={key: value for key, value in columns.items() if key not in self.own},
        )


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
    systems: dict[str, _File | _Run] = {}
    for name, path in files.items():
        if not SYSTEM_NAME.fullmatch(name) or name.endswith((".", "-")):
            raise InputError(f"'{name}' is not a valid system name: use at most 64 letters, digits, '.', '_' and '-'.")
        found = run_and_variant(Path(path))
        systems[name] = _Run(*found) if found else _File(Path(path), columns)
        if not systems[name]:
            raise InputError(f"{path} contains no replies.")
    dialogues = tuple(dict.fromkeys(chain.from_iterable(systems.values())))
    return ReadReplies(
        dialogues=dialogues,
        replies=systems,
        missing={name: len(dialogues) - len(lines) for name, lines in systems.items()},
        own=_own_columns(dialogues, systems, {name: Path(path) for name, path in files.items()}),
    )


def _reply(id: str, line: _Line | None) -> ReplyRow:
    if line is None:
        return ReplyRow(id=id, error="no reply in the file")
    if line.reply is None:
        return ReplyRow(id=id, error="the reply is null")
    return ReplyRow(id=id, reply=line.reply, finish=line.finish)


def _own_columns(
    dialogues: Sequence[str], systems: Mapping[str, _File | _Run], paths: Mapping[str, Path]
) -> frozenset[str]:
    """Return the columns on which systems disagree (a key such as "model"); refuse contradictory dialogues."""
    own: set[str] = set()
    for id in dialogues:
        names = [name for name, lines in systems.items() if id in lines]
        if len({systems[name].said(id) for name in names}) == 1:
            continue
        lines = {name: systems[name][id] for name in names}
        first, *others = lines
        known, merged = lines[first], dict(lines[first].columns)
        for name in others:
            line = lines[name]
            for key in ("reference", "prompt", "conversation"):
                mine, theirs = getattr(line, key), getattr(known, key)
                if mine is not None and theirs is not None and mine != theirs:
                    raise InputError(
                        f"{paths[name]}, line {line.number}: the {key} of '{id}' differs from that in "
                        f"{paths[first]}, line {known.number}. All systems must answer the same dialogues."
                    )
            own.update(key for key, value in line.columns.items() if key in merged and merged[key] != value)
            merged = {**line.columns, **merged}
    return frozenset(own)


def _said(line: _Line) -> int:
    """Return a number that is equal for lines that say the same of their dialogue."""
    columns = json.dumps(line.columns) if line.columns else ""
    return hash((line.reference, line.prompt, line.conversation, columns))


class _Run(Mapping[str, _Line]):
    """The replies of one variant of a run by id, read when they are asked for."""

    def __init__(self, folder: RunFolder, variant: str) -> None:
        names = [str(one["name"]) for one in folder.read_manifest().variants]
        if variant not in names:
            raise InputError(f"{folder.root} has no variant '{variant}'.{did_you_mean(variant, names)}")
        self._dialogues = folder.dialogues_by_id()
        self._replies = folder.replies_by_id(variant)
        numbered = enumerate(self._replies, 1)
        self._numbers = {id: number for number, id in numbered if self._dialogues[id].reference is not None}

    def said(self, id: str) -> int:
        """Return ``_said`` of a line."""
        return _said(self[id])

    def __getitem__(self, id: str) -> _Line:
        dialogue, row = self._dialogues[id], self._replies[id]
        return _Line(
            number=self._numbers[id],
            id=id,
            reference=(dialogue.reference or "", *dialogue.further_references),
            reply=row.raw or row.reply,
            prompt=dialogue.prompt,
            conversation=dialogue.conversation,
            finish=row.finish,
            columns=dialogue.columns,
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self._numbers)

    def __len__(self) -> int:
        return len(self._numbers)


class _File(Mapping[str, _Line]):
    """The lines of a file of replies by id. All are validated at first; kept of each is only where it is."""

    def __init__(self, path: Path, columns: ReplyColumns | None) -> None:
        self._path = path
        self._shape: ReplyShape | None = None
        self._places: dict[str, int] = {}  # of the line among the following columns
        self._offsets, self._numbers, self._said = array("q"), array("q"), array("q")
        try:
            self._file = path.open("rb")
        except OSError as error:
            raise InputError(f"Cannot read {path}: {error.strerror}.") from error
        offset = 0
        for number, raw in enumerate(self._file, 1):
            if raw.strip():
                value = _object(raw, f"{path}, line {number}", number)
                self._shape = self._shape or shape_of(value, columns)
                line = _line(self._shape, value, f"{path}, line {number}", number)
                if line.id in self._places:
                    before = self._numbers[self._places[line.id]]
                    raise InputError(
                        f"{path}, line {number}: the id '{line.id}' is already in line {before}. Make ids unique."
                    )
                self._places[line.id] = len(self._places)
                self._offsets.append(offset)
                self._numbers.append(number)
                self._said.append(_said(line))
            offset += len(raw)

    def said(self, id: str) -> int:
        """Return ``_said`` of a line."""
        return self._said[self._places[id]]

    def __getitem__(self, id: str) -> _Line:
        place = self._places[id]
        number = self._numbers[place]
        self._file.seek(self._offsets[place])
        where = f"{self._path}, line {number}"
        assert self._shape is not None
        line = _line(self._shape, _object(self._file.readline(), where, number), where, number)
        if line.id != id:
            raise InputError(f"{where} changed while it was read. Run the command again.")
        return line

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def run_and_variant(path: Path) -> tuple[RunFolder, str] | None:
    """Return the run folder and the variant that ``RUN:VARIANT`` or a run's own file of replies names, or None."""
    if path.parent.name == "replies" and (path.parent.parent / "run.json").is_file():
        return RunFolder(path.parent.parent), path.stem
    root, separator, variant = str(path).rpartition(":")
    if separator and not path.exists() and (Path(root) / "run.json").is_file():
        return RunFolder(Path(root)), variant
    return None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not valid JSON")


def _once_each(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object; raise ValueError for a key that it has twice, of which Python's reader takes the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated!r:.80} is given twice")
    return found


def _object(raw: bytes, where: str, number: int) -> dict[str, Any]:
    try:
        value = json.loads(
            raw.decode("utf-8-sig" if number == 1 else "utf-8"), parse_constant=_refuse, object_pairs_hook=_once_each
        )
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
