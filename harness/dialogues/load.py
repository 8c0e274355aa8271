"""Loads dialogues: what the patient (and doctor) said so far, and the reference, the doctor's own next reply.

They come from a file (JSON, JSONL, CSV, TSV, Parquet) or a Hub dataset, through a column map. A row is either

- a prompt (``instruction``, followed by ``input`` on the next line if present) and a reference (``output``), or
- ``turns``: a list of ``{"role": …, "content": …}``. Consecutive turns of one speaker are joined; the doctor's last
  turn is the reference and everything before it is the prompt. To measure each of a doctor's turns, give one row for
  each, with the same value in ``conversation``: they then stay on the same side of the split.

Line endings become ``\\n`` and surrounding white space is stripped. Text must not be empty, longer than ``LONGEST``
characters, or contain NUL, lone surrogates or bytes that are not UTF-8. Such a row is an error that names file, line
and column; with ``on_invalid="skip"`` it is skipped and counted by reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.dialogues.files import SUFFIXES, SourceRow, plain, read_file
from harness.dialogues.hub import is_hub_id, read_dataset
from harness.dialogues.model import ColumnMap, Dialogue
from harness.dialogues.split import dialogue_hash
from harness.dialogues.turns import NOT_TEXT, InvalidRowError, Turn, clean_text, read_turns, split_turns, transcript
from harness.errors import InputError, did_you_mean
from harness.files import digest_bytes, digest_file


@dataclass(frozen=True)
class LoadedDialogues:
    """Dialogues in the order of their source; ``invalid`` counts the skipped rows by reason.

    ``digest`` is the SHA-256 of the file (of the rows, for a Hub dataset).
    """

    dialogues: tuple[Dialogue, ...]
    invalid: dict[str, int]
    digest: str


def load_dialogues(
    source: str | Path,
    columns: ColumnMap | None = None,
    *,
    on_invalid: Literal["error", "skip"] = "error",
    hub_split: str = "train",
    need_reference: bool = True,
) -> LoadedDialogues:
    """Load every dialogue of a file or Hub dataset.

    ``need_reference=False`` accepts dialogues without a reference. Raises InputError for an unusable source, a mapped
    column that it does not have, and (unless they are skipped) the first invalid row.
    """
    columns = columns or ColumnMap()
    rows, digest = _read(str(source), hub_split)
    name = str(source)
    if not rows:
        raise InputError(f"{name} contains no dialogues.")
    _check_columns(rows, columns, name, need_reference)
    dialogues: list[Dialogue] = []
    invalid: Counter[str] = Counter()
    for row in rows:
        try:
            dialogues.append(_dialogue(row, columns, need_reference))
        except InvalidRowError as problem:
            if on_invalid == "error":
                raise InputError(_sentence(name, row.line, problem)) from None
            invalid[problem.reason] += 1
    if not dialogues:
        counts = ", ".join(f"{reason}: {count}" for reason, count in invalid.most_common())
        raise InputError(f"{name} contains no usable dialogues ({counts}).")
    return LoadedDialogues(_with_unique_ids(dialogues), dict(sorted(invalid.items())), digest)


def _read(source: str, hub_split: str) -> tuple[list[SourceRow], str]:
    """Return the rows and the digest of their source."""
    path = Path(source)
    if path.is_file():
        return list(read_file(path)), digest_file(path)
    if path.is_dir() or (is_hub_id(source) and path.suffix.lower() not in SUFFIXES):
        rows = list(read_dataset(str(path) if path.is_dir() else source, hub_split))
        lines = (json.dumps(plain(row.values), sort_keys=True).encode() + b"\n" for row in rows)
        return rows, digest_bytes(b"".join(lines))
    beside = [entry.name for entry in path.parent.glob("*")]
    raise InputError(f"There is no file '{source}'.{did_you_mean(path.name, beside)}")


def _check_columns(rows: list[SourceRow], columns: ColumnMap, source: str, need_reference: bool) -> None:
    """Raise InputError if a mapped column is in no row at all: the map is wrong then, not the rows."""
    known = {name: None for row in rows for name in row.values}  # a dict, to keep the file's order
    if not known:
        return  # no row could be read; each has its own problem
    asked: set[str] = {name for name in ("input", "id", "turns", "conversation") if name in columns.model_fields_set}
    if columns.turns not in known:
        asked |= {"prompt", "reference"} if need_reference else {"prompt"}
    for role in ("prompt", "reference", "input", "id", "turns", "conversation"):
        name = getattr(columns, role)
        if role in asked and name is not None and name not in known:
            shown = ", ".join(list(known)[:12]) + (", …" if len(known) > 12 else "")
            raise InputError(
                f"{source} has no column '{name}', which dialogues.columns.{role} requires."
                f"{did_you_mean(name, known)} Its columns are: {shown}."
            )


def _dialogue(row: SourceRow, columns: ColumnMap, need_reference: bool) -> Dialogue:
    if row.problem is not None:
        raise InvalidRowError(row.reason or row.problem, None, row.problem)
    values = row.values
    turns: tuple[Turn, ...] = ()
    if _present(values.get(columns.turns)):
        turns, reference = split_turns(read_turns(values[columns.turns], columns.turns), columns.turns, need_reference)
        prompt = transcript(turns)
    else:
        prompt = clean_text(values.get(columns.prompt), columns.prompt, "prompt")
        if columns.input is not None and _present(values.get(columns.input)):
            prompt = f"{prompt}\n{clean_text(values[columns.input], columns.input, 'input')}"
        wanted = need_reference or _present(values.get(columns.reference))
        reference = clean_text(values.get(columns.reference), columns.reference, "reference") if wanted else None
    taken = {columns.turns, columns.prompt, columns.input, columns.reference, columns.id}
    conversation = _conversation(values, columns)
    if conversation is not None:
        taken.add(columns.conversation)
    others = {str(name): plain(value) for name, value in values.items() if name not in taken}
    return Dialogue(_id(values, columns.id), prompt, reference, others, turns, conversation, row.line)


def _present(value: object) -> bool:
    return value is not None and not (isinstance(value, str) and not value.strip())


def _id(values: dict[str, object], column: str) -> str:
    """Return the row's id, or an empty string if it has none: one is then made from its content."""
    value = values.get(column)
    if not _present(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidRowError("invalid id", column, f"the id must be a string or an integer, not {value!r:.60}")
    text = str(value).strip()
    if NOT_TEXT.search(text) or len(text) > 500:
        raise InvalidRowError("invalid id", column, "the id contains invalid characters or more than 500")
    return text


def _conversation(values: dict[str, object], columns: ColumnMap) -> str | None:
    value = values.get(columns.conversation)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value).strip() or None
    if value is not None and "conversation" in columns.model_fields_set:
        problem = f"the conversation id must be a string or an integer, not {value!r:.60}"
        raise InvalidRowError("invalid conversation", columns.conversation, problem)
    return None  # another column that happens to have the default name


def _with_unique_ids(dialogues: list[Dialogue]) -> tuple[Dialogue, ...]:
    """Give every dialogue a unique id that depends on its content and not on its position.

    A dialogue without an id is named by its hash. If several share an id (as in some real datasets), the hash is
    appended to each; only dialogues that are equal in both are then numbered.
    """
    shared = Counter(dialogue.id for dialogue in dialogues)
    taken = {name for name, count in shared.items() if name and count == 1}
    given: Counter[str] = Counter()
    unique = []
    for dialogue in dialogues:
        name = dialogue.id
        if not name or shared[name] > 1:
            digest = dialogue_hash(dialogue)
            stem = f"{name}~{digest[:8]}" if name else digest[:16]
            name = stem
            while name in taken:
                given[stem] += 1
                name = f"{stem}-{given[stem] + 1}"
            taken.add(name)
        unique.append(dataclasses.replace(dialogue, id=name))
    return tuple(unique)


def _sentence(source: str, line: int, problem: InvalidRowError) -> str:
    where = f"{source}, line {line}" + (f", column '{problem.column}'" if problem.column else "")
    return f"{where}: {problem.problem}. Fix it, or set dialogues.on_invalid to 'skip' to skip such rows."
