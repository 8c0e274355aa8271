"""Which medication a dose belongs to, how often it is taken, and whether two such regimens agree."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from harness.metrics.medical.quantities import Frequency, Quantity, doses, frequencies
from harness.metrics.medical.reading import Match, Reading, fold

SEPARATOR = re.compile(r"[,;|+&•\n/]|\.(?!\d)|\b(?:and|or|plus|with|then|but|followed|along|versus|vs)\b")
NEAR = 20  # characters between a dose and the medication after it: "500 mg of oral amoxicillin"
MAXIMUM = re.compile(
    r"\b(?:max|maximum|not exceed|(?:no|not|never) more than|up to|at most|limit\w*|less than|under)\b[^.;]{0,25}$"
)
MAXIMUM_AFTER = re.compile(
    r"^[\s,(]{0,3}(?:(?:max|maximum|at most)\b(?!\W*(?:of|dose|is)?\W*\d)|(?:a |per )?day max|is the (?:max|limit))"
)
DIVIDED = re.compile(
    r"\b(?:in|divided into|split into|over)\s(?P<parts>two|three|four|2|3|4)\s"
    r"(?:equal\s|divided\s)?(?:doses|parts|portions|servings)"
)
PARTS = {"two": 2, "three": 3, "four": 4}  # also the likely parts of a day's amount
FAR = 500  # characters from a medication to a dose, from which it is not its own
STATEMENT_END = re.compile(r"[.!?](?=\s|$)|\n|;")
REACH = 70  # characters after a dose in which its frequency stands
WEIGHT = re.compile(
    r"\b(?:weighs?|weight|weighing)\D{0,12}(?P<kg>\d{1,3}(?:\.\d)?)\s?(?P<unit>kg|kilo|lb|pound)|\b(?P<plain>\d{1,3})[\s-]kg\b(?!\s?/)"
)
POUND = 0.4536


@dataclass(frozen=True)
class Regimen:
    """A dose of a medication. ``often``: times a day; ``total``: the amount is a day's; ``limit``: it is a maximum."""

    drug: str
    dose: Quantity
    often: Frequency | None = None
    total: bool = False
    limit: bool = False
    parts: int = 1

    def agrees(self, other: Regimen) -> bool:
        """Return whether both may mean the same: equal single doses as often, or equal amounts a day."""
        if self.limit and other.limit:
            return self.dose.meets(other.dose)
        if self.limit or other.limit:
            plain, most = (self, other) if other.limit else (other, self)
            return plain.dose.low <= most.dose.high * 1.01
        mine, theirs = self._a_day(), other._a_day()
        if (self.total or other.total) and mine and theirs:
            return mine.meets(theirs)
        if self._single().meets(other._single()):
            return self._as_often(other)
        if self.total != other.total:
            whole, single = (self, other) if self.total else (other, self)
            return any(_times(single.dose, part, part).meets(whole.dose) for part in PARTS.values())
        return False

    def amounts(self) -> tuple[Quantity, ...]:
        """Return the single dose and the amount a day, as far as they are known."""
        a_day = self._a_day()
        return (self._single(),) if a_day is None else (self._single(), a_day)

    def _single(self) -> Quantity:
        return _times(self.dose, 1 / self.parts, 1 / self.parts)

    def _as_often(self, other: Regimen) -> bool:
        one, two = self.often, other.often
        if one is None or two is None:
            return True
        return one.low <= two.high * 1.01 and two.low <= one.high * 1.01

    def _a_day(self) -> Quantity | None:
        if self.total:
            return self.dose
        return None if self.often is None else _times(self.dose, self.often.low, self.often.high)


def regimens(reading: Reading) -> Iterator[Regimen]:
    """Yield each dose with the medication it belongs to and how often it is taken."""
    mentions = reading.of("drug")
    found = doses(reading.text) if mentions else ()
    if not found:
        return
    text = fold(reading.text)
    spans = reading.spans
    places = [(spans[mention.first][0], spans[mention.last][1], mention) for mention in mentions]
    starts = [start for start, _, _ in places]
    often = frequencies(reading.text)
    for number, dose in enumerate(found):
        following_dose = found[number + 1].start if number + 1 < len(found) else len(text)
        place = bisect_right(starts, dose.start)
        before = places[place - 1] if place else None
        after = places[place] if place < len(places) else None
        drug = _owner(text, found[number - 1] if number else None, dose, before, after)
        if drug is not None:
            yield _regimen(text, drug, dose, often, following_dose)


Place = tuple[int, int, Match]  # where a medication's name begins and ends


def courses(text: str) -> Iterator[Regimen]:
    """Yield every dose of a text with how often it is taken, whatever the medication."""
    given = doses(text)
    folded = fold(text) if given else ""
    often = frequencies(text) if given else ()
    for number, dose in enumerate(given):
        following = given[number + 1].start if number + 1 < len(given) else len(folded)
        yield _regimen(folded, "", dose, often, following)


def _owner(
    text: str, earlier: Quantity | None, dose: Quantity, before: Place | None, after: Place | None
) -> str | None:
    """Return the medication of a dose: the one beside it, with nothing that separates list items in between.

    Between two, the one right before it wins, unless a dose of its own is between: "aspirin 81 mg, atorvastatin 40 mg",
    "81 mg of aspirin, 40 mg of atorvastatin".
    """
    joined_after = (
        after is not None
        and after[0] - dose.end <= NEAR
        and not SEPARATOR.search(text[dose.end : after[0]].rstrip(")"))
    )
    if before is None or dose.start - before[1] > FAR:
        return after[2].key if after is not None and joined_after else None
    gap = text[before[1] : dose.start]
    taken = earlier is not None and before[1] <= earlier.start
    joined_before = not SEPARATOR.search(gap.strip().removeprefix(",").removeprefix("(")) and not taken
    if after is not None and joined_after and not joined_before:
        return after[2].key
    return before[2].key if joined_before or _same_statement(gap) else None


def _same_statement(gap: str) -> bool:
    """Return whether the text from a medication to a dose is one statement: no sentence or blank line ends in it."""
    return not re.search(r"[.!?](?!\d)|\n\s*\n|\n.*\n", gap)


def _statement_end(text: str, place: int) -> int:
    """Return where a statement ends, at most ``REACH`` characters on."""
    found = STATEMENT_END.search(text, place, place + REACH)
    return found.start() if found else min(place + REACH, len(text))


def _regimen(text: str, drug: str, dose: Quantity, often: tuple[Frequency, ...], end: int) -> Regimen:
    end = min(end, _statement_end(text, dose.end))
    tail = text[dose.end : end]
    first = bisect_left(often, dose.end - 1, key=lambda one: one.start)
    near = often[first] if first < len(often) and often[first].start < end else None
    front = text[max(0, dose.start - 40) : dose.start]
    limit = bool(MAXIMUM.search(front) or MAXIMUM_AFTER.search(text[dose.end : dose.end + REACH]))
    divided = DIVIDED.search(tail)
    parts = int(PARTS.get(divided["parts"], 0) or divided["parts"]) if divided else 1
    single = re.match(r"\s*(?:per|/|each|a)\s?dose|\s*each time", tail)
    found = None if single or limit else near
    return Regimen(drug, dose, found, bool(found and found.total), limit, parts)


def with_weight(regimen: Regimen, text: str) -> Regimen:
    """Return a dose per kilogram as a dose, if the text says what the patient weighs."""
    if not regimen.dose.dimension.endswith("/kg"):
        return regimen
    weight = _kilograms(text)
    if weight is None:
        return regimen
    dose = _times(regimen.dose, weight, weight)
    return replace(regimen, dose=replace(dose, dimension=regimen.dose.dimension.removesuffix("/kg")))


@lru_cache(maxsize=16)
def _kilograms(text: str) -> float | None:
    found = WEIGHT.search(fold(text))
    if not found:
        return None
    return float(found["kg"] or found["plain"]) * (POUND if (found["unit"] or "").startswith(("lb", "p")) else 1.0)


def _times(dose: Quantity, low: float, high: float) -> Quantity:
    return Quantity(dose.dimension, dose.low * low, dose.high * high, dose.start, dose.end)
