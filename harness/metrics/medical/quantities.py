"""Quantities in a text: doses with their units, and other numbers with a unit.

Every repetition in these expressions is bounded and starts only where a number starts, so that matching takes linear
time for any text, even with long runs of digits.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from harness.metrics.medical.reading import Reading, fold

NUMBER = r"(?:\d{1,3}(?:,\d{3}){1,3}(?:\.\d{1,6})?|\d{1,9}(?:\.\d{1,6})?|\.\d{1,6})"
RANGE = rf"(?<![\w.,])(?P<low>{NUMBER})(?:\s{{0,2}}(?:-|–|—|to|or|and)\s{{0,2}}(?P<high>{NUMBER}))?"


def _units(dimensions: dict[str, dict[str, float]]) -> dict[str, tuple[str, float]]:
    """Return dimension and factor of every unit; spellings of one unit are separated by ``|``."""
    return {
        spelling: (dimension, factor)
        for dimension, units in dimensions.items()
        for spellings, factor in units.items()
        for spelling in spellings.split("|")
    }


DOSE_UNITS = _units(
    {
        "mass": {"mg|milligram": 1.0, "mcg|µg|μg|ug|microgram": 1e-3, "g|gm|gram|gramme": 1e3},
        "volume": {"ml|cc|millilitre|milliliter": 1.0},
        "units": {"unit|iu|international unit": 1.0},
        "meq": {"meq": 1.0},
        "mmol": {"mmol": 1.0},
    }
)
COUNT_UNITS = _units(
    {
        "percent": {"%|percent|per cent": 1.0},
        "time": {"minute|min": 1.0, "hour|hr": 60.0, "day": 1440.0, "week": 10080.0},
        "months": {"month": 1.0, "year": 12.0},
        "times": {"time": 1.0},
        "pieces": {"tablet|pill|capsule": 1.0},
        "puffs": {"puff": 1.0},
        "drops": {"drop": 1.0},
        "teaspoons": {"teaspoon": 1.0},
        "tablespoons": {"tablespoon": 1.0},
        "degrees": {"degree|°": 1.0},
        "mmhg": {"mmhg": 1.0},
    }
)
NUMBER_WORDS = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
SMALL_NUMBERS = {word: number for number, word in enumerate(NUMBER_WORDS, 1)}
WORD_NUMBERS = "|".join(SMALL_NUMBERS)


def _alternatives(units: dict[str, tuple[str, float]]) -> str:
    return "|".join(sorted((re.escape(unit) for unit in units), key=len, reverse=True))


DOSE = re.compile(rf"{RANGE}[\s-]{{0,2}}(?P<unit>{_alternatives(DOSE_UNITS)})s?(?![\w%])(?P<per>\s?/\s?[a-z]{{1,8}})?")
COUNT = re.compile(rf"{RANGE}[\s-]{{0,2}}(?P<unit>{_alternatives(COUNT_UNITS)})s?(?!\w)")
WORD_COUNT = re.compile(
    rf"\b(?P<low>{WORD_NUMBERS})(?:\s?(?:-|–|to|or)\s?(?P<high>{WORD_NUMBERS}))?[\s-]{{1,2}}"
    rf"(?P<unit>{_alternatives(COUNT_UNITS)})s?(?!\w)"
)
# "Once" is a frequency only before a period, unlike in "at once" or "once you feel better".
SPAN = "day|night|week|month|year|hour|morning|evening"
ONCE = rf"once(?=\s(?:daily|nightly|weekly|monthly|yearly|(?:a|an|per|each|every|in\sa)\s(?:{SPAN})|every\s\d))"
OFTEN = re.compile(rf"\b({ONCE}|twice|thrice|bid|tid|qid)\b")
TIMES = {"once": 1.0, "twice": 2.0, "thrice": 3.0, "bid": 2.0, "tid": 3.0, "qid": 4.0}
EVERY = re.compile(r"\b(?:every|each)\s$")
IGNORED_PER = ("/day", "/d", "/dose")


@dataclass(frozen=True)
class Quantity:
    """An amount or a range of amounts, in the base unit of its dimension, and its position in the text."""

    dimension: str
    low: float
    high: float
    start: int
    end: int

    def meets(self, other: Quantity) -> bool:
        """Return whether both could mean the same amount: their ranges overlap, to within 1%."""
        if self.dimension != other.dimension:
            return False
        return self.low <= other.high * 1.01 and other.low <= self.high * 1.01


@lru_cache(maxsize=16)
def doses(text: str) -> tuple[Quantity, ...]:
    """Return the doses of a text: mass in mg, volume in ml, units; amounts per kg etc. have their own dimension."""
    found = []
    for match in DOSE.finditer(fold(text)):
        dimension, factor = DOSE_UNITS[match["unit"]]
        per = (match["per"] or "").replace(" ", "")
        if per and per not in IGNORED_PER:
            dimension += per
        found.append(_quantity(match, dimension, factor))
    return tuple(found)


@lru_cache(maxsize=16)
def counts(text: str) -> tuple[Quantity, ...]:
    """Return the other quantities of a text: percentages, durations, times a day, tablets, drops, degrees."""
    folded = fold(text)
    found = []
    for pattern in (COUNT, WORD_COUNT):
        for match in pattern.finditer(folded):
            dimension, factor = COUNT_UNITS[match["unit"]]
            quantity = _quantity(match, dimension, factor)
            if match["unit"] in ("hour", "hr") and EVERY.search(folded, max(0, match.start() - 6), match.start()):
                quantity = _times_a_day(quantity)
            found.append(quantity)
    for match in OFTEN.finditer(folded):
        times = TIMES[match[1]]
        found.append(Quantity("times", times, times, *match.span()))
    return tuple(sorted(found, key=lambda quantity: quantity.start))


def _times_a_day(interval: Quantity) -> Quantity:
    """Return how often a day "every 4 to 6 hours" is, so that it matches "4 times a day"."""
    day = COUNT_UNITS["day"][1]
    low, high = (day / max(minutes, 1.0) for minutes in (interval.high, interval.low))
    return Quantity("times", low, high, interval.start, interval.end)


def _quantity(match: re.Match[str], dimension: str, factor: float) -> Quantity:
    low = _value(match["low"]) * factor
    high = _value(match["high"]) * factor if match["high"] else low
    return Quantity(dimension, min(low, high), max(low, high), *match.span())


def _value(number: str) -> float:
    return float(SMALL_NUMBERS.get(number) or number.replace(",", ""))


def doses_of_drugs(reading: Reading) -> Iterator[tuple[str, Quantity]]:
    """Yield each dose with the medication it belongs to.

    That is the one directly after it ("500 mg of amoxicillin"), else the last one before it in the same sentence.
    """
    mentions = reading.of("drug")
    if not mentions:
        return
    starts = [start for start, _ in reading.spans]
    firsts = [mention.first for mention in mentions]
    for dose in doses(reading.text):
        word = bisect_right(starts, dose.start) - 1
        after = bisect_right(starts, dose.end - 1)
        place = bisect_right(firsts, word)
        following = mentions[place] if place < len(mentions) else None
        if (
            following
            and following.first - after <= 2
            and not {",", ".", "or", "and"}.intersection(reading.words[after : following.first])
        ):
            yield following.key, dose
        elif place and reading.sentence[mentions[place - 1].last] == reading.sentence[word]:
            yield mentions[place - 1].key, dose
