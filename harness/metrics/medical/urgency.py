"""Red flags in what a patient says, and whether a text refers somebody to urgent help."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from harness.metrics.medical.assertion import PUNCTUATION, negated, status
from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import Match, Reading
from harness.metrics.medical.turns import answer, said_by_clinician

Force = Literal["plain", "conditional", "deferred", "negated", "narrated"]
NEGATION_REACH = 6
NOT_URGENT = "not-urgent"
JOINTS = frozenset({"and", "then", ","})
PROVOKED = frozenset({"heart", "breathing"})  # where pain on pressing, or breathlessness on stairs, is less urgent
MANNER = frozenset(
    {"hesitate", "wait", "delay", "put", "postpone", "hold", "fail", "forget", "afraid", "ashamed", "embarrassed"}
    | {"reluctant", "scared", "drive", "driving", "only", "just", "waiting", "stop", "avoid", "ignore", "longer"}
)
TAKEN = frozenset({"took", "taken", "swallowed", "ate", "downed", "swallowing", "ingested", "had"})
MANY = frozenset(
    {"ten", "eleven", "twelve", "fifteen", "sixteen", "eighteen", "twenty", "thirty", "forty", "fifty", "sixty"}
    | {"hundred", "dozen", "dozens", "handful", "bottle", "box", "packet", "bunch", "all", "too"}
)
PIECES = frozenset(
    {"tablets", "pills", "capsules", "tabs", "caplets", "tylenol", "paracetamol", "acetaminophen", "aspirin"}
    | {"medication", "medications", "meds", "ibuprofen", "antidepressants"}
)
UNITS = frozenset({"mg", "mcg", "g", "ml", "days", "weeks", "months", "years"})
NOW = frozenset({"now", "immediately", "right", "away", "at", "once", "straight", "today", "urgently"})
KIN = frozenset({"friend", "neighbor", "neighbour", "cousin", "brother", "sister", "uncle", "aunt"})
NARRATORS = frozenset({"i", "we", "i've", "we've", "he", "she", "they"})
ADVISING = frozenset(
    {"recommend", "advise", "urge", "suggest", "think", "would", "i'd", "want", "say", "believe", "need"}
)
OUGHT = frozenset({"should", "must", "needs", "need", "ought", "please", "you", "your"})
REQUESTING = frozenset({"can", "could", "would", "will", "why", "please"})  # "Could you go to the ER?"
GENERAL = frozenset({"people", "patients", "many", "some", "others", "most", "folks"})
PAST = frozenset({"went", "was", "were", "had", "got", "took", "taken", "visited", "called", "came", "been", "saw"})
THIS_CASE = frozenset(
    {"this", "that", "it", "your", "his", "her", "an", "a", "evaluation", "treatment", "help", "further", "immediate"}
    | {"assessment", "tests", "testing", "care", "urgent", "emergency", "these", "proper", "prompt", "medical", "him"}
)


@dataclass(frozen=True)
class RedFlag:
    """A finding that needs urgent help: its category (as in ``red_flags.yaml``) and the patient's words."""

    category: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Advice:
    """Words that refer to urgent help.

    ``force``: plain; conditional ("if you faint, ..."); deferred ("if it gets worse, ..."); negated ("no need to ...");
    narrated ("I went to the ER").
    """

    kind: str
    force: Force
    match: Match


@lru_cache(maxsize=16)
def red_flags(reading: Reading) -> tuple[RedFlag, ...]:
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
    return (*found, *_overdoses(reading))


def _overdoses(reading: Reading) -> list[RedFlag]:
    """Return where somebody took ten or more tablets at a time: "I took 30 paracetamol tablets"."""
    found = []
    for place, word in enumerate(reading.words):
        if word not in TAKEN:
            continue
        for count in range(place + 1, min(place + 4, len(reading.words))):
            number = reading.words[count]
            many = (number.isdecimal() and 10 <= int(number[:6]) <= 1000) or number in MANY
            pieces = next(
                (p for p in range(count + 1, min(count + 6, len(reading.words))) if reading.words[p] in PIECES), 0
            )
            if many and pieces and not UNITS.intersection(reading.words[count : count + 2]):
                match = Match("red_flag", "poison", place, pieces)
                if _stated(reading, match):
                    found.append(RedFlag("poison", (reading.quote(match),)))
                break
    return found


def _stated(reading: Reading, match: Match) -> bool:
    if match.key == NOT_URGENT or (match.key.partition("/")[0] in PROVOKED and _provoked(reading, match)):
        return False
    if said_by_clinician(reading, match):
        return answer(reading, match) == "yes" and status(reading, match) == "affirmed"
    return status(reading, match) == "affirmed"


def _provoked(reading: Reading, match: Match) -> bool:
    """Return whether pressing or moving brings it on, and nothing says how bad or sudden it is."""
    if word_set("severe.txt").intersection(reading.words[match.first : match.last + 1]):
        return False
    cues = reading.within("provoked", reading.sentence[match.first])
    return any(cue.first > match.first or cue.last < match.first for cue in cues)


@lru_cache(maxsize=16)
def mentions_red_flag(reading: Reading) -> bool:
    """Return whether the text mentions a red flag without denying it."""
    return any(match.key != NOT_URGENT and status(reading, match) != "negated" for match in reading.of("red_flag"))


@lru_cache(maxsize=16)
def advice(reading: Reading) -> tuple[Advice, ...]:
    """Return everything in the text that refers to urgent help, with its force."""
    return tuple(
        Advice(kind, _force(reading, match), match)
        for kind in ("emergency", "crisis", "poison")
        for match in reading.of(f"advice_{kind}")
    )


def _force(reading: Reading, match: Match) -> Force:
    answered = answer(reading, match, presence=False)
    if answered == "no" or _needless(reading, match):
        return "negated"
    if negated(reading, match, NEGATION_REACH, JOINTS) and not _of_the_manner(reading, match):
        return "negated"
    if _narrated(reading, match) or (answered is None and _only_asked(reading, match)):
        return "narrated"
    sentence = reading.sentence[match.first]
    conditions = [cue for cue in reading.within("advice_condition", sentence) if not _urges(reading, cue)]
    if not conditions:
        return "conditional" if _for_others(reading, match) else "plain"
    start = min(cue.first for cue in conditions)
    changes = [
        cue
        for cue in reading.within("advice_deferral", sentence)
        if cue.first > start and not match.first <= cue.first <= match.last
    ]
    return "deferred" if changes else "conditional"


def _urges(reading: Reading, cue: Match) -> bool:
    """Return whether the words urge instead of setting a condition: "as soon as you can", "if I were you"."""
    after = reading.words[cue.last + 1 : cue.last + 4]
    return after[:1] in (("can",), ("possibly",)) or after == ("i", "were", "you")


def _of_the_manner(reading: Reading, match: Match) -> bool:
    """Return whether the denial is of a delay or of how to get there: "don't wait to call", "do not drive to ..."."""
    start, _ = reading.bounds(match)
    return bool(MANNER.intersection(reading.words[max(start, match.first - NEGATION_REACH) : match.first]))


def _only_asked(reading: Reading, match: Match) -> bool:
    start, end = reading.bounds(match)
    return reading.words[end] == "?" and reading.words[start] not in REQUESTING


def _narrated(reading: Reading, match: Match) -> bool:
    """Return whether the words tell what somebody did: "I once went to the ER for this"."""
    start, _ = reading.bounds(match)
    # "I take this as a warning sign: go to ..." speaks to the reader after the colon.
    start = max((place + 1 for place in range(start, match.first) if reading.words[place] in {":", ";"}), default=start)
    before = reading.words[start : match.last + 1]
    if GENERAL.intersection(before) and not OUGHT.intersection(before):
        return True
    teller = next((place for place, word in enumerate(before) if word in NARRATORS or word in KIN), None)
    if teller is None:
        return False
    after = before[teller + 1 :]
    if before[teller] in ("i", "we", "i've", "we've") and not ADVISING.intersection(after):
        return True
    return bool(PAST.intersection(after)) and not OUGHT.intersection(after)


def _for_others(reading: Reading, match: Match) -> bool:
    """Return whether the advice is for named signs, not for this case: "seek help at once for severe pain"."""
    place = match.last + 1
    while place < len(reading.words) and reading.words[place] in NOW:
        place += 1
    following = (*reading.words[place : place + 2], "", "")
    return following[0] in {"for", "with"} and following[1] not in THIS_CASE


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
