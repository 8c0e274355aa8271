"""The project's own word lists, and their notation.

A line is a phrase of whole words; ``(a|b)`` is a choice and ``[x]`` is optional. Each file names its sources.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

PART = re.compile(r"\(([^()]*)\)|\[([^\[\]]*)\]|([^()\[\]]+)")
MOST_PHRASES = 5000


def read_yaml(name: str) -> dict[str, Any]:
    """Return a lexicon file of keys and phrases."""
    value = yaml.safe_load(files(__name__).joinpath(name).read_text(encoding="utf-8"))
    assert isinstance(value, dict)
    return value


def read_lines(name: str) -> Iterator[str]:
    """Yield a lexicon's lines without comments and blank lines."""
    for line in files(__name__).joinpath(name).read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            yield line


@cache
def word_set(name: str) -> frozenset[str]:
    """Return the words of a lexicon."""
    return frozenset(word for line in read_lines(name) for word in line.split())


def read_table(name: str, columns: int) -> Iterator[tuple[str, ...]]:
    """Yield a lexicon's rows; short rows are filled with empty text."""
    for line in read_lines(name):
        cells = [cell.strip() for cell in line.split("\t")]
        yield tuple(cells + [""] * (columns - len(cells)))


def expand(pattern: str) -> list[str]:
    """Return every phrase that a pattern matches; raise ValueError if there are too many or a bracket is unbalanced."""
    phrases = [""]
    end = 0
    for part in PART.finditer(pattern):
        if part.start() != end:
            break
        end = part.end()
        choice, option, plain = part.groups()
        if choice is not None:
            pieces = choice.split("|")
        elif option is not None:
            pieces = [*option.split("|"), ""]
        else:
            pieces = [plain]
        phrases = [phrase + piece for phrase in phrases for piece in pieces]
        if len(phrases) > MOST_PHRASES:
            raise ValueError(f"the pattern {pattern!r} expands to more than {MOST_PHRASES} phrases")
    if end != len(pattern):
        raise ValueError(f"the pattern {pattern!r} has an unbalanced bracket")
    return phrases
