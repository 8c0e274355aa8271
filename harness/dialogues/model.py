"""A dialogue, and what a config says of where dialogues come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import Field

from harness.dialogues.turns import Turn
from harness.yamlfile import Strict


class ColumnMap(Strict):
    """Which column of the data holds what; several prompt columns are given as one name each."""

    prompt: str = "instruction"
    input: str | None = "input"
    reference: str = "output"
    id: str = "id"
    turns: str = "turns"
    conversation: str = "conversation"


class DialogueSource(Strict):
    """Where dialogues come from and how they are read: training and measuring have to agree on it."""

    source: str
    hub_split: str = Field("train", description="which of a hub data set's own splits to read")
    salt: str = "medical-dialogue-harness"
    columns: ColumnMap = ColumnMap()
    on_invalid: Literal["error", "skip"] = "error"


class DialogueConfig(DialogueSource):
    """Where the dialogues come from and which of them are held out."""

    split: Literal["train", "validation", "test", "all"] = "test"
    too_long: Literal["skip", "error", "cut-left"] = "skip"
    leakage: Literal["drop", "error", "warn"] = "drop"
    fingerprints: tuple[str, ...] = ()  # more training fingerprints than the variants' own


@dataclass(frozen=True)
class Dialogue:
    """One dialogue.

    ``prompt`` is what was said so far as one text; of several turns, a transcript with its speakers named.
    ``turns`` is the same, turn by turn, and empty where the data had no turns. ``columns`` are the data's further
    columns. ``line`` is where it stands in its file (a row's number in Parquet and hub data).
    """

    id: str
    prompt: str
    reference: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    turns: tuple[Turn, ...] = ()
    conversation: str | None = None
    line: int = 0
