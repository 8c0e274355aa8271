"""From a row of the data to a dialogue, as a ``Reading`` says.

A row is either a prompt (followed by an input on the next line) and a reference, or turns. A prompt may itself be a
list of turns, or several phrasings of one question, of which the first is asked; a reference may be the assistant's
message, or several right replies. A system prompt and earlier turns are put in front.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.dialogues.files import SourceRow, plain
from harness.dialogues.layouts import Reading, present, value_at
from harness.dialogues.model import ColumnMap, Dialogue
from harness.dialogues.turn_shapes import looks_like_turns, read_history, read_turns
from harness.dialogues.turns import (
    NOT_TEXT,
    InvalidRowError,
    Turn,
    ask,
    clean_text,
    join_turns,
    split_turns,
    transcript,
)

AFTERWARDS = "the patient speaks after the doctor's last turn, which is not used"
PHRASINGS = "the first of several phrasings is asked"


@dataclass(frozen=True)
class _Said:
    """What a row says: the prompt as text and turn by turn (or no turns), and its references, the first one first."""

    prompt: str
    turns: tuple[Turn, ...]
    references: tuple[str, ...]
    remarks: tuple[str, ...] = ()


def read_row(row: SourceRow, reading: Reading, need_reference: bool, remarks: Counter[str]) -> Dialogue:
    """Return a row's dialogue, its id empty if it has none; raise InvalidRowError if it is not a valid one.

    ``remarks`` counts what the dialogue leaves out of its row.
    """
    if row.problem is not None:
        raise InvalidRowError(row.reason or row.problem, None, row.problem)
    columns, values = reading.columns, row.values
    try:
        turns = value_at(values, columns.turns)
        has_turns = present(turns) or turns == []
        said = (_said_in_turns if has_turns else _said_in_columns)(values, reading, need_reference)
        remarks.update(said.remarks)
        name, conversation = _id(values, reading), _conversation(values, reading)
        taken = {columns.turns, columns.prompt, columns.input, columns.reference, columns.system, columns.history}
        taken |= {columns.id} if name else set()
        taken |= {columns.conversation} if conversation is not None else set()
        others = {str(name): plain(value) for name, value in values.items() if name not in taken}
    except RecursionError:
        raise InvalidRowError("nested too deeply", None, "a value is nested too deeply") from None
    first, *further = said.references or (None,)
    return Dialogue(
        id=name,
        prompt=said.prompt,
        reference=first,
        columns=others,
        turns=said.turns,
        conversation=conversation,
        line=row.line,
        further_references=tuple(each for each in further if each is not None),
    )


def _said_in_turns(values: dict[str, object], reading: Reading, need_reference: bool) -> _Said:
    columns, column = reading.columns, str(reading.columns.turns)
    for role in sorted({"prompt", "input"} & reading.written):
        name = getattr(columns, role)
        if present(value_at(values, name)):
            problem = f"the row also has turns in '{column}', so it has two prompts"
            raise InvalidRowError("two prompts", name, problem)
    joined = join_turns([*_before(values, columns), *read_turns(value_at(values, column), column)])
    unanswered = bool(joined) and joined[-1].role == "patient" and present(value_at(values, columns.reference))
    if "reference" in reading.written or unanswered:
        turns = ask(joined, column)
        references = _references(values, columns, need_reference)
    else:
        turns, reply = split_turns(joined, column, need_reference)
        references = () if reply is None else (reply,)
    unused = turns != joined and joined[-1].role == "patient"
    return _Said(transcript(turns), turns, references, (AFTERWARDS,) if unused else ())


def _said_in_columns(values: dict[str, object], reading: Reading, need_reference: bool) -> _Said:
    columns, column = reading.columns, reading.columns.prompt
    if column is None:
        raise InvalidRowError("missing turns", columns.turns, "the turns are missing")
    value = value_at(values, column)
    if isinstance(value, list | dict) and looks_like_turns(value):
        asked = list(read_turns(value, column))
    else:
        asked = [Turn("patient", clean_text(_first_phrasing(value), column, "prompt"))]
    if columns.input is not None and present(value_at(values, columns.input)):
        asked.append(Turn("patient", clean_text(value_at(values, columns.input), columns.input, "input")))
    turns = ask(join_turns([*_before(values, columns), *asked]), column)
    references = _references(values, columns, need_reference)
    several = isinstance(value, list) and not isinstance(value[0], dict) and len(_flat(value)) > 1
    return _Said(transcript(turns), turns if len(turns) > 1 else (), references, (PHRASINGS,) if several else ())


def _before(values: dict[str, object], columns: ColumnMap) -> list[Turn]:
    """Return the turns of the columns that stand in front: the system prompt and earlier turns."""
    system, history = value_at(values, columns.system), value_at(values, columns.history)
    turns = []
    if columns.system is not None and present(system):
        turns.append(Turn("system", clean_text(system, columns.system, "system prompt")))
    if columns.history is not None and present(history):
        turns.extend(read_history(history, columns.history))
    return turns


def _references(values: dict[str, object], columns: ColumnMap, need_reference: bool) -> tuple[str, ...]:
    column, value = columns.reference, value_at(values, columns.reference)
    if not need_reference and not present(value):
        return ()
    if column is None:
        raise InvalidRowError("missing reference", None, "no column has the reference")
    if isinstance(value, list | dict) and looks_like_turns(value):
        turns = join_turns(read_turns(value, column))
        if len(turns) != 1 or turns[0].role != "doctor":
            problem = "the reference must be one message of the assistant"
            raise InvalidRowError("more than a reply as reference", column, problem)
        return (turns[0].content,)
    several = [each for each in _flat(value) if present(each)] if isinstance(value, list) else []
    texts = (clean_text(each, column, "reference") for each in several or [value])
    return tuple(dict.fromkeys(texts))


def _first_phrasing(value: object) -> object:
    return next((each for each in _flat(value) if present(each)), None) if isinstance(value, list) else value


def _flat(value: object) -> list[object]:
    if not isinstance(value, list):
        return [value]
    return [inner for each in value for inner in _flat(each)]


def _id(values: dict[str, object], reading: Reading) -> str:
    """Return the row's id, or an empty string if it has none: one is then made from its content.

    Only a mapped column must have valid ids; another one that happens to have the usual name may hold anything.
    """
    column, value = reading.columns.id, value_at(values, reading.columns.id)
    if column is None or not present(value):
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int):
        if "id" not in reading.written:
            return ""
        raise InvalidRowError("invalid id", column, f"the id must be a string or an integer, not {value!r:.60}")
    text = str(value).strip()
    if NOT_TEXT.search(text) or len(text) > 500:
        raise InvalidRowError("invalid id", column, "the id contains invalid characters or more than 500")
    return text


def _conversation(values: dict[str, object], reading: Reading) -> str | None:
    column, value = reading.columns.conversation, value_at(values, reading.columns.conversation)
    if isinstance(value, str | int) and not isinstance(value, bool):
        return str(value).strip() or None
    if value is not None and "conversation" in reading.written:
        problem = f"the conversation id must be a string or an integer, not {value!r:.60}"
        raise InvalidRowError("invalid conversation", column, problem)
    return None  # another column that happens to have the usual name
