"""The table of conditions (``conditions.yaml``): symptoms, treatments and red flags."""

from __future__ import annotations

from importlib import resources
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

Who = Literal["adult", "older", "woman", "man", "child"]
_AGES: dict[Who, tuple[int, int]] = {
    "adult": (19, 68),
    "older": (58, 88),
    "woman": (19, 62),
    "man": (34, 82),
    "child": (3, 12),
}


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Treatment(_Entry):
    """A drug or measure, its dose, and what rules it out."""

    drug: str
    dose: str
    unless: str | None = None


class Condition(_Entry):
    """One row of the table; ``conditions.yaml`` says which place in a sentence each phrase fits."""

    name: str
    about: str
    category: str
    who: Who
    symptoms: tuple[str, ...] = Field(min_length=3)
    treatments: tuple[Treatment, ...] = Field(min_length=2)
    self_care: tuple[str, ...] = Field(min_length=3)
    avoid: tuple[str, ...] = Field(min_length=2)
    urgent: tuple[str, ...] = Field(min_length=3)
    review: str
    emergency: bool = False

    @property
    def ages(self) -> tuple[int, int]:
        """The lowest and highest age of its patients."""
        return _AGES[self.who]


def load_conditions() -> tuple[Condition, ...]:
    """Return the table, in the file's order."""
    text = resources.files(__package__).joinpath("conditions.yaml").read_text(encoding="utf-8")
    # libyaml, if PyYAML was built with it, reads the table twenty times faster.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return tuple(Condition.model_validate(entry) for entry in yaml.load(text, Loader=loader))
