"""Loads dialogues: what the patient (and doctor) said so far, and the reference, the doctor's own next reply.

They come from a file (JSON, JSONL, CSV, TSV, Parquet; text may be packed) or a Hub dataset. The layout is recognised
(``layouts``) or given by a column map, and each row is read as it says (``rows``). To measure each of a doctor's turns,
give one row for each, with the same value in ``conversation``: they then stay on the same side of the split.

Line endings become ``\\n`` and surrounding white space is stripped. Text must not be empty, longer than ``LONGEST``
characters, or contain NUL, lone surrogates or bytes that are not UTF-8. Such a row is an error that names file, line
and column; with ``on_invalid="skip"`` it is skipped and counted by reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.dialogues.files import SourceRow, is_dialogue_file, plain, read_file
from harness.dialogues.hub import is_hub_id, read_dataset
from harness.dialogues.layouts import ROLES, Reading, choose_reading, sample_of
from harness.dialogues.model import ColumnMap, Dialogue, DialogueSource
from harness.dialogues.rows import read_row
from harness.dialogues.shingles import words_of
from harness.dialogues.split import dialogue_hash
from harness.dialogues.turn_shapes import looks_like_turns
from harness.dialogues.turns import InvalidRowError
from harness.errors import InputError, did_you_mean
from harness.files import digest_bytes, digest_file


@dataclass(frozen=True)
class LoadedDialogues:
    """Dialogues in the order of their source; ``invalid`` counts the skipped rows by reason.

    ``digest`` is the SHA-256 of the file (of the rows, for a Hub dataset). ``layout`` is the name of the layout that
    was recognised, None where the column map gives it. ``notes`` are sentences about how the data were read.
    """

    dialogues: tuple[Dialogue, ...]
    invalid: dict[str, int]
    digest: str
    layout: str | None = None
    notes: tuple[str, ...] = ()


def load_source(chosen: DialogueSource, source: str | Path, *, need_reference: bool = True) -> LoadedDialogues:
    """Load dialogues as a config or recipe says, from ``source``: where its own was found."""
    return load_dialogues(
        source,
        chosen.columns,
        on_invalid=chosen.on_invalid,
        hub_split=chosen.hub_split,
        hub_config=chosen.hub_config,
        encoding=chosen.encoding,
        need_reference=need_reference,
    )


def load_dialogues(
    source: str | Path,
    columns: ColumnMap | None = None,
    *,
    on_invalid: Literal["error", "skip"] = "error",
    hub_split: str | None = None,
    hub_config: str | None = None,
    encoding: str | None = None,
    need_reference: bool = True,
) -> LoadedDialogues:
    """Load every dialogue of a file or Hub dataset; the options are those of ``DialogueSource``.

    ``need_reference=False`` accepts dialogues without a reference. Raises InputError for an unusable source, a mapped
    column that it does not have, and (unless they are skipped) the first invalid row.
    """
    name = str(source)
    rows, digest = _read(name, hub_split, hub_config, encoding)
    if not rows:
        raise InputError(f"{name} contains no dialogues.")
    sample = sample_of(row.values for row in rows)
    reading = choose_reading(sample, columns or ColumnMap())
    _check_columns(sample, reading, name, need_reference)
    dialogues: list[Dialogue] = []
    invalid: Counter[str] = Counter()
    remarks: Counter[str] = Counter()
    for row in rows:
        try:
            dialogues.append(read_row(row, reading, need_reference, remarks))
        except InvalidRowError as problem:
            if on_invalid == "error":
                raise InputError(_sentence(name, row.line, problem)) from None
            invalid[problem.reason] += 1
    if not dialogues:
        counts = ", ".join(f"{reason}: {count}" for reason, count in invalid.most_common())
        raise InputError(f"{name} contains no usable dialogues ({counts}).")
    return LoadedDialogues(
        _with_unique_ids(dialogues),
        dict(sorted(invalid.items())),
        digest,
        reading.layout,
        (*_notes(rows, sample, reading, name), *(f"In {count} dialogues {said}." for said, count in remarks.items())),
    )


def _read(
    source: str, hub_split: str | None, hub_config: str | None, encoding: str | None
) -> tuple[list[SourceRow], str]:
    """Return the rows and the digest of their source."""
    path = Path(source)
    if path.is_file():
        if hub_config is not None:
            raise InputError(f"{source} is a file, so it has no configuration '{hub_config}' (dialogues.hub_config).")
        return list(read_file(path, encoding=encoding, split=hub_split)), digest_file(path)
    if path.is_dir() or (is_hub_id(source) and not is_dialogue_file(path)):
        if encoding is not None:
            raise InputError(f"{source} is not a file, so dialogues.encoding cannot be used. Give a file in it.")
        rows = list(read_dataset(str(path) if path.is_dir() else source, hub_split or "train", hub_config))
        lines = (json.dumps(plain(row.values), sort_keys=True).encode() + b"\n" for row in rows)
        return rows, digest_bytes(b"".join(lines))
    beside = [entry.name for entry in path.parent.glob("*")]
    raise InputError(f"There is no file '{source}'.{did_you_mean(path.name, beside)}")


def _check_columns(known: Mapping[str, object], reading: Reading, source: str, need_reference: bool) -> None:
    """Raise InputError if a mapped column is in no row at all: the map is wrong then, not the rows."""
    if not known:
        return  # no row could be read; each has its own problem
    asked = set(reading.written)
    if reading.columns.turns not in known:
        asked |= {"prompt", "reference"} if need_reference else {"prompt"}
    for role in (role for role in ROLES if role in asked):
        name = getattr(reading.columns, role)
        if name is None and role in ("prompt", "reference") and reading.columns.turns not in known:
            raise InputError(f"{source}: no column has the {role}. Name it in dialogues.columns.{role}.")
        if name is not None and name not in known and name.partition(".")[0] not in known:
            shown = ", ".join(list(known)[:12]) + (", …" if len(known) > 12 else "")
            raise InputError(
                f"{source} has no column '{name}', which dialogues.columns.{role} requires."
                f"{did_you_mean(name, known)} Its columns are: {shown}.{_hint(known, reading)}"
            )


def _hint(known: Mapping[str, object], reading: Reading) -> str:
    """Return where turns were found that no role uses."""
    turns = [] if "turns" in reading.written else [name for name, value in known.items() if _holds_turns(value)]
    if not turns:
        return ""
    return (
        f" '{turns[0]}' holds turns: set dialogues.columns.turns to it, and dialogues.columns.reference to the column "
        "of the reply if that is not among the turns."
    )


def _notes(rows: list[SourceRow], sample: Mapping[str, object], reading: Reading, source: str) -> list[str]:
    notes = [f"{source} is read as {reading.layout}."] if reading.layout else []
    used = reading.used()
    unused = [name for name in sample if name not in used and _holds_text([row.values.get(name) for row in rows[:100]])]
    if unused:
        shown = ", ".join(f"'{name}'" for name in unused[:6]) + (", …" if len(unused) > 6 else "")
        shown = shown.encode("utf-8", "backslashreplace").decode()  # names may be of another encoding
        notes.append(f"Columns with text or turns that are part of neither prompt nor reference: {shown}.")
    return notes


def _holds_text(values: list[object]) -> bool:
    """Return whether most values of a column are turns or text of at least five words."""
    found = [value for value in values if value is not None and value != ""]
    texts = sum(_holds_turns(each) or (isinstance(each, str) and len(words_of(each)) >= 5) for each in found)
    return texts > len(found) / 2


def _holds_turns(value: object) -> bool:
    return not isinstance(value, str) and looks_like_turns(value)


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
