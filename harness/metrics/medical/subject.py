"""Of whom a text states a finding: of the patient, of a relative, or of people in general."""

from __future__ import annotations

from typing import Literal

from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import Match, Reading
from harness.metrics.medical.turns import answer

Holder = Literal["self", "relative", "third", "nobody"]
FRAGMENT = 4  # words of a sentence that needs no subject: "No fever."
UNKNOWN = 2  # further words, such as adjectives, between a verb and the finding
SELF = frozenset({"i", "i'm", "i've", "my", "me", "you", "you're", "you've", "your", "patient", "patient's", "we"})
THIRD = frozenset({"he", "he's", "his", "she", "she's", "her", "they", "they're", "their", "him"})
POSSESSIVES = frozenset({"my", "your", "his", "her", "their", "patient's"})
EXISTENTIAL = frozenset({"there", "it", "it's", "this", "that", "there's"})
TELLING = frozenset({"tell", "inform", "discuss", "mention", "ask", "asks", "know", "disclose", "talk", "report"})


def holder(reading: Reading, match: Match) -> Holder:
    """Return of whom the finding is stated: the nearest person named in front of it in its sentence."""
    start, _ = reading.bounds(match)
    for place in range(match.first - 1, start - 1, -1):
        word = reading.words[place]
        if word in word_set("kin.txt"):
            return "relative"
        if word in SELF:
            return "self"
        if word in THIRD:
            return "third"
    return "nobody"


def attributed(reading: Reading, match: Match) -> bool:
    """Return whether the sentence says by its grammar that somebody has, or has not, the finding.

    "You have no fever", "your fever", "there is no rash", "it is contagious", "No fever." do; "cancer is treated with
    drugs" and "to live without cancer" do not.
    """
    start, end = reading.bounds(match)
    if end - start <= FRAGMENT or answer(reading, match) is not None:
        return True
    before = reading.words[start : match.first]
    clause = [word for word in before if word not in {"(", ")"}]
    findings = {
        reading.words[place]
        for other in reading.within("finding", reading.sentence[match.first])
        for place in range(other.first, other.last + 1)
    }
    unknown, verb = 0, False
    for place in range(len(clause) - 1, -1, -1):
        word = clause[place]
        if word in POSSESSIVES or word.endswith("'s") and word[:-2] in word_set("kin.txt"):
            if unknown <= UNKNOWN and not verb:
                return not TELLING.intersection(clause[:place])
            return verb
        if word in SELF or word in THIRD or word in word_set("kin.txt"):
            return verb
        if word in EXISTENTIAL:
            return verb and unknown == 0
        if word in word_set("modals.txt"):
            return False
        if word in {"denies", "denied", "denying", "reports", "reported"}:
            return True
        if word in word_set("having.txt"):
            verb = True
        elif word not in word_set("denial_between.txt") and word not in findings and word not in {"no", "not", ","}:
            unknown += 1
            if unknown > UNKNOWN:
                return False
    return verb or clause[:1] in (["no"], ["not"], ["never"], ["without"], ["negative"])
