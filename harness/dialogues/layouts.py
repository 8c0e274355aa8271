"""The layouts of data sets: each is recognised by its columns and stands for a column map.

``LAYOUTS`` is in order of precedence. What a config maps itself always wins: with a ``prompt`` or ``turns`` of its own
nothing is recognised; any other role that it maps replaces the layout's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from harness.dialogues.model import ColumnMap
from harness.dialogues.turn_shapes import looks_like_turns

Sample = Mapping[str, object]  # of each column the first value that is not empty

ROLES = tuple(ColumnMap.model_fields)
_QUESTIONS = ("question", "questions")
_ANSWERS = ("answer", "answers")


@dataclass(frozen=True)
class Layout:
    """How one kind of data set is written: its name, whether a sample of it fits, and the columns it stands for."""

    name: str
    fits: Callable[[Sample], bool]
    columns: Callable[[Sample], dict[str, str]]


@dataclass(frozen=True)
class Reading:
    """How rows are read: each role's column (None: not used), and which roles the config maps itself.

    ``layout`` is the name of the recognised layout, None if the config maps prompt or turns or none was recognised.
    """

    columns: ColumnMap
    written: frozenset[str]
    layout: str | None = None

    def used(self) -> frozenset[str]:
        """Return the columns that have a role, objects by their own name."""
        named = (getattr(self.columns, role) for role in ROLES)
        return frozenset(name.partition(".")[0] for name in named if name) | frozenset(filter(None, named))


def choose_reading(sample: Sample, columns: ColumnMap) -> Reading:
    """Return how rows with this sample are read under the config's column map."""
    named = {role: getattr(columns, role) for role in columns.model_fields_set}
    written = frozenset(role for role, column in named.items() if column is not None)
    found = None
    if not written & {"prompt", "turns"}:
        found = next((layout for layout in LAYOUTS if layout.fits(sample) and _allowed(layout, sample, named)), None)
    roles: dict[str, str | None] = ColumnMap().model_dump()
    if found:
        given = found.columns(sample)
        if "prompt" in given:
            roles.update(turns=None, input=None)
        roles.update(given)
    roles.update({role: None for role, fits in _DEFAULTS.items() if not fits(sample)})
    roles.update(named)
    if "prompt" in written and "turns" not in written:
        roles["turns"] = None
    for role in ROLES:  # a default never gives a column a second role
        if role not in written and roles[role] in {named[other] for other in written}:
            roles[role] = None
    return Reading(ColumnMap().model_copy(update=roles), written, found.name if found else None)


def sample_of(rows: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Return every column in order, with its first value that is not empty, or None."""
    sample: dict[str, object] = {}
    for values in rows:
        for name, value in values.items():
            if sample.get(name) is None:
                sample[name] = value if present(value) else None
    return sample


def present(value: object) -> bool:
    """Return whether a value is neither nothing nor an empty text, list or object."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None and not (isinstance(value, list | dict) and not value)


def value_at(values: Mapping[str, object], column: str | None) -> object:
    """Return the value of a column, or of the entry ``b`` of the objects in ``a`` for a column named ``a.b``."""
    if column is None or column in values:
        return values.get(column or "")
    name, _, entry = column.partition(".")
    inner = values.get(name)
    return inner.get(entry) if entry and isinstance(inner, dict) else None


def _allowed(layout: Layout, sample: Sample, named: Mapping[str, str | None]) -> bool:
    """Return whether the config has not switched off the roles that the layout stands on."""
    return all(named.get(role, "") is not None for role in layout.columns(sample) if role in ("prompt", "turns"))


def _turns_in(column: str, name: str) -> Layout:
    return Layout(name, lambda sample: looks_like_turns(sample.get(column)), lambda _: {"turns": column})


def _is_turn_list(value: object) -> bool:
    return not isinstance(value, str) and looks_like_turns(value)


def _column(sample: Sample, names: tuple[str, ...]) -> str | None:
    return next((column for column in sample if column.strip().lower() in names), None)


def _question_and_answer(sample: Sample) -> dict[str, str]:
    question, answer = _column(sample, _QUESTIONS), _column(sample, _ANSWERS)
    return {"prompt": question, "reference": answer} if question and answer else {}


def _is_history(sample: Sample) -> bool:
    """Return whether the column ``history`` holds earlier turns; a patient's medical history is text."""
    value = sample.get("history")
    if isinstance(value, str):
        return value.lstrip().startswith(("[[", "[{"))
    pairs = isinstance(value, list) and isinstance(value[0], list | tuple) and len(value[0]) == 2
    return pairs or looks_like_turns(value)


def _is_system_prompt(sample: Sample) -> bool:
    """Return whether the column ``system`` holds sentences; an organ system is a word or two."""
    value = sample.get("system")
    sentence = isinstance(value, str) and len(value.split()) > 2 and value.rstrip().endswith((".", "!", "?", ":"))
    return sentence or (isinstance(value, str) and _is_history(sample))


# Roles whose usual column name often means something else: when the config does not map them, their values decide.
_DEFAULTS: dict[str, Callable[[Sample], bool]] = {"history": _is_history, "system": _is_system_prompt}

LAYOUTS = (
    _turns_in("turns", "turns"),
    Layout(
        "instruction, input and output",
        lambda sample: "instruction" in sample and "output" in sample,
        lambda _: {"prompt": "instruction", "input": "input", "reference": "output"},
    ),
    Layout(
        "prompt and completion",
        lambda sample: "prompt" in sample and "completion" in sample,
        lambda _: {"prompt": "prompt", "reference": "completion"},
    ),
    Layout(
        "HealthBench",
        lambda sample: _is_turn_list(sample.get("prompt")) and "ideal_completions_data" in sample,
        lambda sample: {
            "prompt": "prompt",
            "reference": "ideal_completions_data.ideal_completion",
            **({"id": "prompt_id"} if "prompt_id" in sample else {}),
        },
    ),
    _turns_in("messages", "OpenAI messages"),
    _turns_in("conversations", "ShareGPT conversations"),
    _turns_in("dialogue_turns", "MedDialog dialogue turns"),
    _turns_in("utterances", "MedDialog utterances"),
    Layout("questions and answers", lambda sample: bool(_question_and_answer(sample)), _question_and_answer),
    Layout("spoken strings", lambda sample: _is_turn_list(sample.get("data")), lambda _: {"turns": "data"}),
    Layout(
        "marked-up text",
        lambda sample: any(mark in str(sample.get("text")) for mark in ("[INST]", "<|im_start|>")),
        lambda _: {"turns": "text"},
    ),
)
