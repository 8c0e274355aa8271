"""docs/run-folder.md names every field that the run folder's files have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.files import Row
from harness.store import schema

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "run-folder.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##|\Z)", TEXT, flags=re.DOTALL | re.MULTILINE))
BASES = {"Row", "VersionedRow"}
MODELS = [
    model
    for name, model in vars(schema).items()
    if isinstance(model, type) and issubclass(model, Row) and name not in BASES
]


def own_fields(model: type[Row]) -> set[str]:
    """Return the names, as they are in the file, of what a model does not inherit from one with its own section."""
    inherited = {
        name
        for base in model.__mro__[1:]
        if issubclass(base, Row) and base.__name__ in SECTIONS
        for name in base.model_fields
    }
    return {field.alias or name for name, field in model.model_fields.items() if name not in inherited}


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_field_is_named(model: type[Row]) -> None:
    named = set(re.findall(r"`(\w+)`", "\n".join(row.split("|")[1] for row in _rows(SECTIONS[model.__name__]))))
    assert named == own_fields(model)


def test_no_section_describes_a_model_that_is_gone() -> None:
    assert set(SECTIONS) == {model.__name__ for model in MODELS}


def _rows(section: str) -> list[str]:
    return [line for line in section.splitlines() if line.startswith("| `")]
