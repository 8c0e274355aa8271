"""A part of ``python -m tests.fuzz``: the same cases every time, in every environment."""

from __future__ import annotations

import pytest

from tests.fuzz.cases import problem
from tests.fuzz.targets import TARGETS

CASES = 29  # 19 targets make 551


@pytest.mark.parametrize("name", TARGETS)
def test_damaged_input_gives_nothing_but_the_projects_own_errors(name: str) -> None:
    problems = [wrong for number in range(CASES) if (wrong := problem(name, number)) is not None]
    assert problems == []
