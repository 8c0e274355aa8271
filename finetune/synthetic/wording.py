"""Reproducible draws among wordings (``Writer``), and the grammar that joins them."""

from __future__ import annotations

import hashlib
import random
import re
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")

# Complaints that do not fit after "I have had".
_VERBAL = re.compile(
    r"^(bumping|crying|dribbling|feeling|gaining|getting|going|leaking|losing|lying|passing|peeling|pulling|scratching"
    r"|straining|waiting|waking)\b"
)
_ARTICLE = re.compile(r"^(an?|the) ")
# Findings that make no sense after "no" or "without".
_UNDENIABLE = re.compile(r"^(no|an inability|the worst|one|days|two|several)\b|\bno\b")


class Writer:
    """Random draws for one text. A seed and labels give the same draws on every machine and Python version."""

    def __init__(self, seed: int, *labels: object) -> None:
        digest = hashlib.sha256("\x1f".join([str(seed), *map(str, labels)]).encode()).digest()
        # Only random() is guaranteed to give the same sequence in every version of Python.
        self._random = random.Random(int.from_bytes(digest[:8], "big")).random

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self._random() < probability

    def number(self, low: int, high: int) -> int:
        """Return an integer from ``low`` to ``high``, both included."""
        return low + int(self._random() * (high - low + 1))

    def pick(self, options: Sequence[Item]) -> Item:
        """Return one of the options."""
        return options[int(self._random() * len(options))]

    def some(self, options: Sequence[Item], count: int) -> list[Item]:
        """Return ``count`` distinct options (all if there are fewer) in random order."""
        left = list(options)
        return [left.pop(int(self._random() * len(left))) for _ in range(min(count, len(left)))]

    def say(self, wordings: Sequence[str], **parts: object) -> str:
        """Return one of the wordings with its parts filled in and its first letter capitalised."""
        return sentence(self.pick(wordings).format(**parts))


def sentence(text: str) -> str:
    """Return ``text`` with its first letter capitalised."""
    return text[:1].upper() + text[1:]


def listed(items: Sequence[str], word: str = "and") -> str:
    """Return ``a, b and c``."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} {word} {items[-1]}"


def bare(phrase: str) -> str:
    """Return the phrase without its article, as it follows "no" or "your"."""
    return _ARTICLE.sub("", phrase)


def is_verbal(phrase: str) -> bool:
    """Return whether the phrase is an activity ("waking at night") rather than a symptom one has."""
    return _VERBAL.match(phrase) is not None


def can_be_denied(phrase: str) -> bool:
    """Return whether "no <phrase>" makes sense."""
    return _UNDENIABLE.search(phrase) is None


_NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")


# Units and ranges of how long a complaint has lasted.
_HOURS, _DAYS, _WEEKS, _MONTHS = ("hour", 2, 10), ("day", 2, 10), ("week", 2, 6), ("month", 2, 9)


def duration(writer: Writer, review: str) -> str:
    """Return how long a complaint has lasted, e.g. ``three weeks``, given when it should be better (``review``)."""
    if "hour" in review:
        units = [_HOURS]
    elif "day" in review or review == "one week":
        units = [_DAYS]
    elif review in ("two weeks", "three weeks"):
        units = [_DAYS, _WEEKS]
    else:
        units = [_WEEKS, _MONTHS]
    unit, least, most = writer.pick(units)
    return f"{_NUMBERS[writer.number(least, most) - 1]} {unit}s"
