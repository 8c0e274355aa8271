"""Who speaks, and what answers a question: "Doctor: Any chest pain? Patient: Yes" states chest pain."""

from __future__ import annotations

from bisect import bisect_left
from typing import Literal

from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import Match, Reading

Answer = Literal["yes", "no"]
CLINICIANS = frozenset({"doctor", "dr", "physician", "clinician", "nurse", "assistant", "therapist", "provider"})
PATIENTS = frozenset({"patient", "pt", "family", "mother", "father", "mom", "dad", "user", "human", "guest"})
SPEAKERS = CLINICIANS | PATIENTS
NO_ANSWER = frozenset({"idea", "clue", "doubt", "wonder", "matter", "one"})  # "no idea" answers nothing
FURTHER_QUESTIONS = 4  # that one "no" answers: "Any fever? Any cough? No."
COLONS = 20  # looked back over for the speaker's name
SHORT = 3  # words before the finding in a question without a verb: "Any chest pain?"
OWNERS = frozenset({"the", "this", "that", "your", "my", "his", "her", "their"})  # they presuppose the finding
ABOUT = frozenset({"how", "what", "when", "where", "why", "which", "who", "can", "could", "should", "would", "is"})
MATTERS = frozenset(
    {"need", "take", "taking", "use", "using", "want", "worry", "worried", "think", "know", "treat", "help"}
)
PRESENCE = frozenset(
    {"have", "has", "had", "having", "any", "feel", "feeling", "felt", "get", "notice", "there", "ever"}
)
DOING = frozenset({"do", "does", "did"})
SHORT_ENDS = frozenset({"", ".", ",", "!", ";", "\n", "it", "that", "them", "indeed", "but", "and"})
PLAIN_YES = frozenset({"yes", "yeah", "yep", "yup", "positive"})


def said_by_clinician(reading: Reading, match: Match) -> bool:
    """Return whether the last speaker named before the match ("Doctor:") is not a patient: doctors ask and explain."""
    return _speaker(reading, match.first) in CLINICIANS


def answer(reading: Reading, match: Match, *, presence: bool = True) -> Answer | None:
    """Return the answer to the question that the match is in, or to a heading like "Chest pain: no".

    ``presence``: only if the question asks whether the match is there, not about it ("Is the pain worse?").
    """
    words = reading.words
    start, end = reading.bounds(match)
    if words[match.last + 1 : match.last + 2] == (":",):
        return _opening(words, match.last + 2, spoken=False)
    speaker = _speaker(reading, match.first)
    asked = words[end] == "?" or (speaker in CLINICIANS and _label(words, _skip(words, end + 1)) is not None)
    if not asked or (presence and not _asks_for_presence(words, start, match)):
        return None
    if speaker is None:
        plain = match.first - start < SHORT or PRESENCE.intersection(words[start : match.first])
        return _opening(words, end + 1, spoken=False) if plain or not presence else None
    place = end + 1
    for further in range(FURTHER_QUESTIONS):
        place = _skip(words, place)
        colon = _label(words, place)
        if colon is not None:
            other = (words[colon - 1] in CLINICIANS) != (speaker in CLINICIANS)
            found = _opening(words, colon + 1, spoken=True) if other else None
            return None if further and found == "yes" else found  # "yes" answers the last question only
        if place >= len(words):
            return None
        if speaker not in CLINICIANS:
            return _opening(words, place, spoken=False)
        place = reading.end_of(reading.sentence[place])
        if words[place] != "?":
            return None
        place += 1
    return None


def _asks_for_presence(words: tuple[str, ...], start: int, match: Match) -> bool:
    """Return whether the question asks for the finding itself, not about it ("Is the pain worse?")."""
    if match.first and words[match.first - 1] in OWNERS:
        return False
    first = start + 2 if words[start + 1 : start + 2] == (":",) else start
    opening = words[first : match.first]
    matters = {word for word, after in zip(opening, (*opening[1:], ""), strict=False) if after not in {"of", "about"}}
    if MATTERS.intersection(matters):
        return False
    return not opening or opening[0] not in ABOUT or bool(PRESENCE.intersection(opening))


def _opening(words: tuple[str, ...], place: int, *, spoken: bool) -> Answer | None:
    """Return what the words at ``place`` answer: "yes", "no, just rest"; of a ``spoken`` turn also "I do"."""
    while place < len(words) and words[place] in word_set("answer_fillers.txt"):
        place += 1
    first, second, third = (*words[place : place + 3], "", "", "")[:3]
    if first in word_set("answers_no.txt"):
        return None if second in NO_ANSWER else "no"
    if first in word_set("answers_yes.txt") and (spoken or first in PLAIN_YES):
        return "yes"
    if spoken and first in {"i", "he", "she", "they", "we", "it"}:
        if second in word_set("answers_verb.txt") and third in {"not", "never", "no"}:
            return "no"
        if second in DOING or (second in word_set("answers_verb.txt") and third in SHORT_ENDS):
            return "yes"  # "I do", "I have.", not "I have a rash"
        if second.endswith("n't") and second != "can't" and third not in {"know", "think", "remember"}:
            return "no"
    return None


def _speaker(reading: Reading, place: int) -> str | None:
    """Return the name in front of the last speaker's colon before ``place``."""
    before = bisect_left(reading.colons, place)
    for colon in reversed(reading.colons[max(before - COLONS, 0) : before]):
        if colon and reading.words[colon - 1] in SPEAKERS:
            return reading.words[colon - 1]
    return None


def _label(words: tuple[str, ...], place: int) -> int | None:
    """Return the place of the colon if a speaker's name, of one or two words, stands at ``place``."""
    return next((p for p in (place + 1, place + 2) if words[p : p + 1] == (":",) and words[p - 1] in SPEAKERS), None)


def _skip(words: tuple[str, ...], place: int) -> int:
    while place < len(words) and words[place] in {"\n", "."}:
        place += 1
    return place
