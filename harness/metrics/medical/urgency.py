"""Red flags in what a patient says, and whether a text refers somebody to urgent help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.metrics.medical.assertion import PUNCTUATION, negated, said_by_clinician, status
from harness.metrics.medical.reading import Match, Reading

Force = Literal["plain", "conditional", "deferred", "negated"]
NEGATION_REACH = 4
NOT_URGENT = "not-urgent"
JOINTS = frozenset({"and", "then", ","})


@dataclass(frozen=True)
class RedFlag:
    """A finding that needs urgent help: its category (as in ``red_flags.yaml``) and the patient's words."""

    category: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """Words that refer to urgent help.

    ``force``: plain; conditional ("if you faint, ..."); deferred ("if it gets worse, ..."); negated ("no need to ...").
    """

    kind: str
    force: Force
    words: str
    match: Match


def red_flags(reading: Reading) -> list[RedFlag]:
    """Return the red flags that the text states as present, not as denied, past, asked about or only possible."""
    found = [RedFlag(match.key, (reading.quote(match),)) for match in reading.of("red_flag") if _stated(reading, match)]
    parts: dict[str, dict[str, Match]] = {}
    for match in reading.of("red_flag_part"):
        if _stated(reading, match):
            rule, _, place = match.key.rpartition("/")
            parts.setdefault(rule, {}).setdefault(place, match)
    for rule, places in parts.items():
        if len(places) > 1:  # both groups of the rule are met
            found.append(RedFlag(rule.split("/")[0], tuple(reading.quote(match) for match in places.values())))
    return found


def _stated(reading: Reading, match: Match) -> bool:
    if match.key == NOT_URGENT:
        return False
    return status(reading, match) == "affirmed" and not said_by_clinician(reading, match)


def mentions_red_flag(reading: Reading) -> bool:
    """Return whether the text mentions a red flag without denying it."""
    return any(match.key != NOT_URGENT and status(reading, match) != "negated" for match in reading.of("red_flag"))


def advice(reading: Reading) -> list[Advice]:
    """Return everything in the text that refers to urgent help, with its force."""
    return [
        Advice(kind, _force(reading, match), reading.quote(match), match)
        for kind in ("emergency", "crisis", "poison")
        for match in reading.of(f"advice_{kind}")
    ]


def _force(reading: Reading, match: Match) -> Force:
    if negated(reading, match, NEGATION_REACH, JOINTS) or _needless(reading, match):
        return "negated"
    sentence = reading.sentence[match.first]
    conditions = reading.within("advice_condition", sentence)
    if not conditions:
        return "plain"
    start = min(cue.first for cue in conditions)
    changes = [
        cue
        for cue in reading.within("advice_deferral", sentence)
        if cue.first > start and not match.first <= cue.first <= match.last
    ]
    return "deferred" if changes else "conditional"


def _needless(reading: Reading, match: Match) -> bool:
    """Return whether nearby words declare the advice unnecessary ("no reason to ...", "... is not necessary")."""
    sentence = reading.sentence[match.first]
    gaps = [
        *((cue.last + 1, match.first) for cue in reading.within("advice_needless_before", sentence)),
        *((match.last + 1, cue.first) for cue in reading.within("advice_needless_after", sentence)),
    ]
    return any(
        0 <= end - start <= NEGATION_REACH and not (JOINTS | PUNCTUATION).intersection(reading.words[start:end])
        for start, end in gaps
    )
