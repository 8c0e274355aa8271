"""Quantities in a text: doses with their units, and other numbers with a unit.

Every repetition in these expressions is bounded and starts only where a number starts, so that matching takes linear
time for any text, even with long runs of digits.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import NamedTuple, Protocol

from harness.metrics.medical.reading import fold

DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,3}(?:\.\d{1,6})?|\d{1,9}(?:\.\d{1,6})?|\.\d{1,6})"


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
        "mass": {"mg|milligram|milligramme": 1.0, "mcg|µg|μg|ug|microgram": 1e-3, "g|gm|gram|gramme": 1e3},
        "volume": {"ml|cc|millilitre|milliliter": 1.0, "l|litre|liter": 1e3},
        "units": {"unit|iu|u|international unit": 1.0},
        "meq": {"meq": 1.0},
        "mmol": {"mmol": 1.0},
    }
)
COUNT_UNITS = _units(
    {
        "percent": {"%|percent|per cent": 1.0},
        "time": {"minute|min": 1.0, "hour|hr": 60.0, "day": 1440.0, "week|wk": 10080.0, "fortnight": 20160.0},
        "months": {"month": 1.0, "year": 12.0, "decade": 120.0},
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
ONES = ("one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TEENS = ("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen")
TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")
NUMBER_WORDS = {
    **{word: float(number) for number, word in enumerate((*ONES, *TEENS), 1)},
    **{word: 10.0 * number for number, word in enumerate(TENS, 2)},
}
WORDED = (
    rf"(?:{'|'.join(NUMBER_WORDS)})(?:[\s-](?:{'|'.join(ONES[:9])}))?(?:\s(?:hundred|thousand))?"
    r"|a\s(?:hundred|thousand|couple\sof|dozen)"
)
NUMBER = rf"(?:{DIGITS}|(?:{WORDED})\b|half\san?|a\shalf)"
RANGE = rf"(?<![\w.,])(?P<low>{NUMBER})(?:\s{{0,2}}(?:-|–|—|to|or|and)\s{{0,2}}(?P<high>{NUMBER}))?"


def _alternatives(units: dict[str, tuple[str, float]]) -> str:
    return "|".join(sorted((re.escape(unit) for unit in units), key=len, reverse=True))


PER = r"\s?(?:/|\bper\b)\s?(?P<of>\d{1,3}(?:\.\d)?\s?)?(?P<per>[a-z]{1,10})"
DOSE = re.compile(rf"{RANGE}[\s-]{{0,2}}(?P<unit>{_alternatives(DOSE_UNITS)})s?(?![\w%])(?:{PER})?")
COUNT = re.compile(rf"{RANGE}[\s-]{{0,2}}(?P<unit>{_alternatives(COUNT_UNITS)})s?(?!\w)")
# "A week" alone is a span of time only after such a word: in "twice a week" it is not.
A_SPAN = re.compile(r"\ban?\s(?P<unit>hour|week|fortnight|month|year)\b")
BEFORE_SPAN = re.compile(r"\b(?:for|in|within|after|about|around|lasts|over|than)\s$")
SHARE = re.compile(
    rf"\b(?P<part>{DIGITS}|{'|'.join(ONES)})\s(?:in|out\sof)\s(?:every\s)?(?P<whole>{DIGITS}|{'|'.join(NUMBER_WORDS)}|a\shundred)\b"
)
FRACTION = re.compile(
    r"\b(?:an?|one)[\s-](?P<name>half|third|quarter|fifth|tenth)\sof\b(?!\san?\s(?:hour|day|week|month|year))|\b(?P<half>half)\s(?:of|the)\b"
)
FRACTION_STARTS = (
    "half",
    "a half",
    "one half",
    "a third",
    "one third",
    "a quarter",
    "one quarter",
    "a fifth",
    "a tenth",
)
FRACTIONS = {"half": 50.0, "third": 100 / 3, "quarter": 25.0, "fifth": 20.0, "tenth": 10.0}
ROUNDED = 0.7  # percentage points: "a third" may be 33 %
IGNORED_PER = frozenset(
    {"day", "d", "dose", "tablet", "tab", "capsule", "time", "night", "week", "month", "hour", "h", "pill"}
)
CONCENTRATION = frozenset(
    {"dl", "l", "litre", "liter", "ml", "mmol", "cc", "deciliter", "milliliter", "mg", "g", "gram", "cubic"}
)


@dataclass(frozen=True)
class Quantity:
    """An amount or a range of amounts, in the base unit of its dimension, and its position in the text.

    ``plain``: no number says it, as in "at bedtime".
    """

    dimension: str
    low: float
    high: float
    start: int
    end: int
    plain: bool = False

    def meets(self, other: Quantity) -> bool:
        """Return whether both could mean the same amount: their ranges overlap, to within 1%."""
        if self.dimension != other.dimension:
            return False
        return self.low <= other.high * 1.01 and other.low <= self.high * 1.01


# Where a match may begin, found by plain search: an expression tried at every character takes ten times as long.
WORDED_STARTS = (*NUMBER_WORDS, "half a", "a half", "a hundred", "a thousand", "a couple of", "a dozen")
SPAN_STARTS = ("an hour", "a week", "a fortnight", "a month", "a year")
DIGIT = re.compile(r"[0-9]+(?:[.,][0-9]+)*")


class Starts(NamedTuple):
    """Where numbers, and literals of each other kind, begin a word, in order."""

    number: list[int]
    span: list[int]
    fraction: list[int]
    frequency: list[int]


@lru_cache(maxsize=16)
def _starts(folded: str) -> Starts:
    found: tuple[set[int], ...] = (set(), set(), set(), set())
    for match in DIGIT.finditer(folded):
        start = match.start()
        found[0].add(start)
        if start and folded[start - 1] == ".":
            found[0].add(start - 1)
    for end, (length, kinds) in _literals().iter(folded):
        start = end - length + 1
        if not start or not folded[start - 1].isalnum():
            for kind in kinds:
                found[kind].add(start)
    found[3].update(found[0])
    return Starts(*map(sorted, found))


class _Automaton(Protocol):
    """The used part of ``ahocorasick.Automaton``: where literals end, with their length and kinds."""

    def iter(self, text: str) -> Iterator[tuple[int, tuple[int, tuple[int, ...]]]]: ...


@cache
def _literals() -> _Automaton:
    import ahocorasick

    kinds: dict[str, set[int]] = {}
    for kind, literals in enumerate((WORDED_STARTS, SPAN_STARTS, FRACTION_STARTS, FREQUENCY_STARTS)):
        for literal in literals:
            kinds.setdefault(literal, set()).add(kind)
    automaton = ahocorasick.Automaton()
    for literal, of in kinds.items():
        automaton.add_word(literal, (len(literal), tuple(sorted(of))))
    automaton.make_automaton()
    made: _Automaton = automaton
    return made


def _scan(pattern: re.Pattern[str], folded: str, starts: Iterable[int]) -> Iterator[re.Match[str]]:
    """Yield the pattern's matches that begin at one of the sorted starts and do not overlap."""
    end = 0
    for start in starts:
        match = pattern.match(folded, start) if start >= end else None
        if match:
            yield match
            end = match.end()


@lru_cache(maxsize=16)
def doses(text: str) -> tuple[Quantity, ...]:
    """Return the doses of a text: mass in mg, volume in ml, units; amounts per kg etc. have their own dimension.

    A concentration ("100 mg/dL") is no dose, unless it is how a medicine is sold ("250 mg/5 ml").
    """
    found = []
    folded = fold(text)
    for match in _scan(DOSE, folded, _starts(folded).number):
        dimension, factor = DOSE_UNITS[match["unit"]]
        per = match["per"] or ""
        if per in CONCENTRATION and not match["of"]:
            continue
        if per and per not in IGNORED_PER and per not in CONCENTRATION:
            dimension += f"/{per}"
        found.append(_quantity(match, dimension, factor))
    return tuple(found)


@lru_cache(maxsize=16)
def counts(text: str) -> tuple[Quantity, ...]:
    """Return the other quantities of a text: percentages, durations, times a day, tablets, drops, degrees."""
    folded = fold(text)
    often = frequencies(text)
    taken = [(one.start, one.end) for one in often]
    found = [Quantity("times", one.low, one.high, one.start, one.end, one.plain) for one in often]
    starts = _starts(folded)
    for match in _scan(COUNT, folded, starts.number):
        if any(start <= match.start() < end for start, end in taken):
            continue
        dimension, factor = COUNT_UNITS[match["unit"]]
        found.append(_span(_quantity(match, dimension, factor)))
    for match in _scan(A_SPAN, folded, starts.span):
        if not BEFORE_SPAN.search(folded, max(0, match.start() - 9), match.start()):
            continue
        dimension, factor = COUNT_UNITS[match["unit"]]
        found.append(_span(Quantity(dimension, factor, factor, *match.span("unit"))))
    for match in _scan(SHARE, folded, starts.number):
        whole = _value(match["whole"])
        if whole:
            share = 100 * _value(match["part"]) / whole
            found.append(Quantity("percent", share, share, *match.span()))
    for match in _scan(FRACTION, folded, starts.fraction):
        share = FRACTIONS[match["name"] or match["half"]]
        found.append(Quantity("percent", share - ROUNDED, share + ROUNDED, *match.span()))
    return tuple(sorted(found, key=lambda quantity: quantity.start))


def _span(quantity: Quantity) -> Quantity:
    """Return months and years in minutes, as a range: a month has 28 to 31 days."""
    if quantity.dimension != "months":
        return quantity
    day = COUNT_UNITS["day"][1]
    return Quantity("time", quantity.low * 28 * day, quantity.high * 31 * day, quantity.start, quantity.end)


DAILY = r"(?:an?|per|each|every|/)\s?"
FREQUENCY = re.compile(
    rf"\b(?:(?P<count>once|twice|thrice|{NUMBER}(?:\s?(?:-|–|to|or)\s?{NUMBER})?(?:\s?times|x|\s?×))"
    rf"(?:[\s-]?(?:(?P<adverb>daily|nightly|weekly|monthly|yearly)|{DAILY}(?P<each>day|night|week|month|morning|evening|year)))"
    rf"|(?P<twice>twice|thrice)\b"
    rf"|(?:every|each|q\.?)\s?(?P<gap>{NUMBER})(?:\s?(?:-|–|to|or)\s?(?P<longest>{NUMBER}))?[\s-]?(?P<unit>hours?|hrs?|h|days?|weeks?|wks?)"
    rf"|(?P<hourly>{NUMBER})(?:\s?(?:-|–|to)\s?(?P<longest_hourly>{NUMBER}))?[\s-]hourly"
    rf"|(?P<code>bid|tid|qid|qhs|qds|tds|qd|bd|qam|qpm|qod|b\.i\.d|t\.i\.d|q\.i\.d)"
    rf"|(?P<other>every\sother\sday|on\salternate\sdays|every\ssecond\sday)"
    rf"|(?P<plain>daily|nightly|weekly|monthly|(?:every|each)\s(?:day|night|morning|evening|week|month)"
    rf"|at\s(?:bedtime|night)|before\sbed|in\sthe\s(?:morning|evening)|(?<!times\s)(?:a|per)\sday))(?!\w)"
)
FREQUENCY_STARTS = (
    *("once", "twice", "thrice", "every", "each", "q", "bid", "bd", "tid", "tds", "b.i.d", "t.i.d", "on alternate"),
    *("daily", "nightly", "weekly", "monthly", "at bedtime", "at night", "before bed", "in the morning"),
    *("in the evening", "a day", "per day"),
)
CODES = {"qd": 1.0, "qhs": 1.0, "qam": 1.0, "qpm": 1.0, "bid": 2.0, "bd": 2.0, "tid": 3.0, "tds": 3.0}
CODES |= {"qid": 4.0, "qds": 4.0, "qod": 0.5}
A_DAY = {"week": 1 / 7, "weekly": 1 / 7, "month": 1 / 30, "monthly": 1 / 30, "year": 1 / 365, "yearly": 1 / 365}
ADVERBS = {"once": 1.0, "twice": 2.0, "thrice": 3.0}
HOURS = {"h": 1.0, "d": 24.0, "w": 168.0}


@dataclass(frozen=True)
class Frequency:
    """How often a day, as a range, and its position in the text. ``total``: "a day" alone, which sums doses up.

    ``plain``: without a number, as in "at bedtime".
    """

    low: float
    high: float
    start: int
    end: int
    total: bool = False
    plain: bool = False


@lru_cache(maxsize=16)
def frequencies(text: str) -> tuple[Frequency, ...]:
    """Return how often a day a text says that something is done: "twice a day", "q6h", "every 4 to 6 hours", "bid"."""
    folded = fold(text)
    return tuple(_frequency(match) for match in _scan(FREQUENCY, folded, _starts(folded).frequency))


def _frequency(match: re.Match[str]) -> Frequency:
    low, high, total = 1.0, 1.0, False
    if match["count"]:
        numbers = [_value(word) for word in re.findall(NUMBER, match["count"])] or [ADVERBS[match["count"]]]
        share = A_DAY.get(match["adverb"] or match["each"], 1.0)
        low, high = min(numbers) * share, max(numbers) * share
    elif match["twice"]:
        low = high = ADVERBS[match["twice"]]
    elif match["gap"] or match["hourly"]:
        first = _value(match["gap"] or match["hourly"])
        last = match["longest"] or match["longest_hourly"]
        hours = HOURS[match["unit"][0]] if match["gap"] else 1.0
        gaps = (first, _value(last) if last else first)
        low, high = (24 / max(gap * hours, 1 / 60) for gap in (max(gaps), min(gaps)))
    elif match["code"]:
        low = high = CODES[match["code"].replace(".", "")]
    elif match["other"]:
        low = high = 0.5
    else:
        word = match["plain"].split()[-1]
        low = high = A_DAY.get(word, 1.0)
        total = match["plain"] in {"a day", "per day"}
    if "month" in match[0]:
        low, high = low * 30 / 31, high * 30 / 28
    return Frequency(low, high, *match.span(), total, plain=bool(match["plain"]))


def _quantity(match: re.Match[str], dimension: str, factor: float) -> Quantity:
    low = _value(match["low"]) * factor
    high = _value(match["high"]) * factor if match["high"] else low
    return Quantity(dimension, min(low, high), max(low, high), *match.span())


def _value(number: str) -> float:
    """Return the value of a number in digits or words: "1,000", "twenty-five", "five hundred", "half a"."""
    plain = number.replace(",", "")
    try:
        return float(plain)
    except ValueError:
        total = 0.0
        for word in re.split(r"[\s-]", number):
            if word in NUMBER_WORDS:
                total += NUMBER_WORDS[word]
            elif word in {"hundred", "thousand", "dozen"}:
                total = max(total, 1.0) * {"hundred": 100.0, "thousand": 1000.0, "dozen": 12.0}[word]
            elif word == "half":
                total = 0.5
            elif word == "couple":
                total = 2.0
        return total
