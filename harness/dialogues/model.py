"""A dialogue, and the configuration of where dialogues come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field, model_validator

from harness.dialogues.turns import Turn
from harness.yamlfile import Strict


class ColumnMap(Strict):
    """Which column of the data contains what; null switches a role off.

    ``a.b`` is the entry ``b`` of the objects in column ``a``. Roles that are not set are found by the data's layout
    (``layouts``).
    """

    prompt: str | None = "instruction"
    input: str | None = "input"
    reference: str | None = "output"
    id: str | None = "id"
    turns: str | None = "turns"
    conversation: str | None = "conversation"
    system: str | None = "system"
    history: str | None = "history"

    @model_validator(mode="after")
    def _one_role_each(self) -> ColumnMap:
        roles: dict[str, str] = {}
        for role in sorted(self.model_fields_set):
            column = getattr(self, role)
            if column is not None and roles.setdefault(column, role) != role:
                raise ValueError(f"the column '{column}' is both {roles[column]} and {role}; give it one role")
        return self


class DialogueSource(Strict):
    """Where dialogues come from and how they are read: training and measuring must agree on it."""

    source: str
    hub_split: str | None = Field(
        None, description="which of the data's own splits to read; absent: the only one of a file, 'train' of the Hub"
    )
    hub_config: str | None = Field(None, description="which configuration of a Hub data set or a data set's folder")
    encoding: str | None = Field(None, description="of a text file; absent: UTF-8, or UTF-16 with a byte-order mark")
    salt: str = "medical-dialogue-harness"
    columns: ColumnMap = ColumnMap()
    on_invalid: Literal["error", "skip"] = "error"


class DialogueConfig(DialogueSource):
    """Where the dialogues come from and which of them are held out."""

    split: Literal["train", "validation", "test", "all"] = "test"
    too_long: Literal["skip", "error", "cut-left"] = "skip"
    leakage: Literal["drop", "error", "warn"] = "drop"
    fingerprints: tuple[str, ...] = ()  # training fingerprints beside the variants' own
    references: Literal["best", "mean"] = Field(
        "best", description="how a reply is scored against several references of one dialogue"
    )


@dataclass(frozen=True)
class Dialogue:
    """One dialogue.

    ``prompt`` is what was said so far as one string; for several turns, a transcript that names the speakers.
    ``turns`` is the same turn by turn, empty if the data has no turns. ``columns`` are the data's other columns.
    ``line`` is its line in the file (the row number in Parquet and Hub data). ``further_references`` are other right
    replies, where the data has several: training and likelihoods use ``reference``, the first.
    """

    id: str
    prompt: str
    reference: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    conversation: str | None = None
    line: int = 0
    further_references: tuple[str, ...] = ()
