"""Whether a text states a finding as present, absent, past or only possible, from cues around it (as in NegEx)."""

from __future__ import annotations

from typing import Literal

from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import Match, Reading

Status = Literal["affirmed", "negated", "historic", "hypothetical"]
CLINICIANS = frozenset({"doctor", "physician", "clinician", "nurse", "assistant", "therapist"})
SPEAKERS = CLINICIANS | {"patient", "family", "mother", "father", "user", "human"}
LONGEST_SPEECH = 400  # words looked back over for the speaker's name
REACH = 8  # words between a cue and what it negates
REACH_AFTER = 4
PUNCTUATION = frozenset(".!?;:,()\n")


def status(reading: Reading, match: Match) -> Status:
    """Return the status of a match in its sentence."""
    if _negated(reading, match):
        return "negated"
    if _near(reading, match, "historic", REACH):
        return "historic"
    owned = match.first > 0 and reading.words[match.first - 1] in {"my", "his", "her"}
    supposed = any(
        cue.last < match.first and not _ended(reading, cue.last, match.first)
        for cue in reading.within("hypothetical", reading.sentence[match.first])
    )
    if not owned and (supposed or _general_question(reading, match)):
        return "hypothetical"
    return "affirmed"


def negated(reading: Reading, match: Match, reach: int = REACH, stops: frozenset[str] = frozenset()) -> bool:
    """Return whether a cue in front of the match negates it; words of ``stops`` end the cue's reach as well."""
    for kind in ("negation", "negation_of_verb"):
        for cue in reversed(reading.within(kind, reading.sentence[match.first])):
            if cue.last >= match.first:
                continue
            if match.first - cue.last > 3 * reach:  # too far even if every other token is a comma
                break
            if reading.clause[cue.first] != reading.clause[match.first] or _is_pseudo(reading, cue):
                continue
            between = reading.words[cue.last + 1 : match.first]
            if between and between[0] == ",":
                continue  # "No, I have ..."
            if kind == "negation_of_verb" and "," in between and not _listed(reading, cue, match):
                continue
            if sum(word not in PUNCTUATION for word in between) > reach or stops.intersection(between):
                continue
            if not _ended(reading, cue.last, match.first):
                return True
    return False


def said_by_clinician(reading: Reading, match: Match) -> bool:
    """Return whether the last speaker named before the match ("Doctor:") is not a patient: doctors ask and explain."""
    words = reading.words
    for place in range(match.first - 1, max(match.first - LONGEST_SPEECH, 0), -1):
        if words[place] == ":" and words[place - 1] in SPEAKERS:
            return words[place - 1] in CLINICIANS
    return False


def _negated(reading: Reading, match: Match) -> bool:
    if negated(reading, match):
        return True
    for cue in reading.within("negation_after", reading.sentence[match.first]):
        gap = reading.words[match.last + 1 : cue.first]
        if (
            cue.first > match.last
            and len(gap) <= REACH_AFTER
            and reading.clause[cue.first] == reading.clause[match.last]
        ):
            return not PUNCTUATION.intersection(gap) and not _ended(reading, match.last, cue.first)
    return False


def _listed(reading: Reading, cue: Match, match: Match) -> bool:
    """Return whether the match is part of a list up to "or": "I don't have a fever, chest pain or a rash"."""
    sentence = reading.sentence[match.first]
    _, end = reading.bounds(match)
    findings = {
        place
        for lexicon in ("finding", "red_flag")
        for other in reading.within(lexicon, sentence)
        for place in range(other.first, other.last + 1)
    }
    fillers = word_set("denial_between.txt")
    closed = False
    for place in range(cue.last + 1, end + 1):
        if place > match.last and closed:
            return True
        word = reading.words[place]
        if not (match.first <= place <= match.last or place in findings or word in fillers):
            return False
        closed = closed or word in {"or", "nor"}
    return closed


def _is_pseudo(reading: Reading, cue: Match) -> bool:
    nearby = reading.within("pseudo_negation", reading.sentence[cue.first])
    return any(pseudo.first <= cue.first and cue.last <= pseudo.last for pseudo in nearby)


def _ended(reading: Reading, after: int, before: int) -> bool:
    nearby = reading.within("termination", reading.sentence[after])
    return any(after < end.first and end.last < before for end in nearby)


def _near(reading: Reading, match: Match, lexicon: str, reach: int) -> bool:
    for cue in reading.within(lexicon, reading.sentence[match.first]):
        if reading.clause[cue.first] != reading.clause[match.first]:
            continue
        before, after = match.first - cue.last - 1, cue.first - match.last - 1
        if 0 <= before <= reach and not _ended(reading, cue.last, match.first):
            return True
        if 0 <= after <= reach and not _ended(reading, match.last, cue.first):
            return True
    return False


def _general_question(reading: Reading, match: Match) -> bool:
    """Return whether the match is in a question by the doctor, or about nobody ("Is chest pain serious?")."""
    start, end = reading.bounds(match)
    if reading.words[end] != "?":
        return False
    if said_by_clinician(reading, match):
        return True
    return not word_set("people.txt").intersection(reading.words[start : match.first])
