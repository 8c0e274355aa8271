"""A dialogue, and the configuration of where dialogues come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from harness.dialogues.turns import Turn
from harness.yamlfile import Strict


class ColumnMap(Strict):
    """Which column of the data contains what."""

    prompt: str = "instruction"
    input: str | None = "input"
    reference: str = "output"
    id: str = "id"
    turns: str = "turns"
    conversation: str = "conversation"


class DialogueSource(Strict):
    """Where dialogues come from and how they are read: training and measuring must agree on it."""

    source: str
    hub_split: str = Field("train", description="which of a Hub dataset's own splits to read")
    salt: str = "medical-dialogue-harness"
    columns: ColumnMap = ColumnMap()
    on_invalid: Literal["error", "skip"] = "error"


class DialogueConfig(DialogueSource):
    """Where the dialogues come from and which of them are held out."""

    split: Literal["train", "validation", "test", "all"] = "test"
    too_long: Literal["skip", "error", "cut-left"] = "skip"
    leakage: Literal["drop", "error", "warn"] = "drop"
    fingerprints: tuple[str, ...] = ()  # training fingerprints beside the variants' own


@dataclass(frozen=True)
class Dialogue:
    """One dialogue.

    ``prompt`` is what was said so far as one string; for several turns, a transcript that names the speakers.
    ``turns`` is the same turn by turn, empty if the data has no turns. ``columns`` are the data's other columns.
    ``line`` is its line in the file (the row number in Parquet and Hub data).
    """

    id: str
    prompt: str
    reference: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    conversation: str | None = None
    line: int = 0
