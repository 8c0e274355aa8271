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
DESCRIBED = frozenset(
    {"describe", "described", "mention", "mentioned", "report", "reported", "have", "had", "feel", "felt", "noticed"}
    | {"are", "were", "complain", "told", "get", "experience", "experienced"}
)  # "the nausea you describe"
PLACES = frozenset({"in", "on", "of", "around", "behind", "under"})
YOURS = (("of", "yours"), ("like", "yours"))
EXISTENTIAL = frozenset({"there", "it", "it's", "this", "that", "there's"})
FILLERS = frozenset({"non", "(", ")", ",", "now", "still", "also", "currently", "really", "with", "some", "the"})
DENIALS = frozenset({"no", "not", "never", "negative", "denies", "denied"})
COPULAS = frozenset({"is", "was", "are", "were", "isn't", "wasn't", "aren't"})
TELLING = frozenset({"tell", "inform", "discuss", "mention", "ask", "asks", "know", "disclose", "talk", "report"})


def holder(reading: Reading, match: Match) -> Holder:
    """Return of whom the finding is stated: the nearest person named in front of it in its sentence."""
    start, _ = reading.bounds(match)
    for place in range(match.first - 1, start - 1, -1):
        word = reading.words[place]
        if word in word_set("kin.txt") or word in word_set("kin_s.txt"):
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
    words = reading.words
    if words[match.last + 1 : match.last + 2] and words[match.last + 1] in word_set("compound_heads.txt"):
        return False  # "cancer treatment"
    if end - start <= FRAGMENT or answer(reading, match) is not None:
        return True
    if POSSESSIVES.intersection(words[match.first : match.last + 1]) or words[match.last + 1 : match.last + 3] in YOURS:
        return True  # "blood in your urine", "a cough like yours"
    following = [word for word in words[match.last + 1 : match.last + 5] if word not in {"that", "which"}]
    if following[:1] == ["you"] and DESCRIBED.intersection(following[1:3]):
        return True
    if following[:1] and following[0] in PLACES and following[1:2] == ["your"]:
        return True  # "the fracture in your wrist"
    if _is_denied_item(reading, match):
        return True
    sentence = reading.sentence[match.first]
    known = {
        place
        for lexicon in ("finding", "negation", "negation_of_verb")
        for other in reading.within(lexicon, sentence)
        for place in range(other.first, other.last + 1)
    }
    unknown, verb, copula = 0, False, False
    for place in range(match.first - 1, start - 1, -1):
        word = words[place]
        if word in POSSESSIVES or word in word_set("kin_s.txt"):
            if not verb and unknown <= UNKNOWN:
                return not TELLING.intersection(words[start:place])
            return verb
        if word in SELF or word in THIRD or word in word_set("kin.txt"):
            return verb or "'" in word  # "I'm", "you've"
        if word in word_set("tests.txt"):
            return True  # "the biopsy was negative for cancer"
        if word in EXISTENTIAL:
            return (verb or word.endswith("'s")) and unknown == 0
        if word in word_set("modals.txt"):
            return False
        if word in {"the", "this", "that"} and copula and place == start:
            return True  # "the lesion is not cancerous"
        if word in {"denies", "denied", "denying", "reports", "reported"}:
            return True
        if word in word_set("having.txt"):
            verb, copula = True, copula or (word in COPULAS and not unknown)
        elif place not in known and word not in FILLERS and word not in word_set("denial_between.txt"):
            unknown += 1
            if unknown > UNKNOWN:
                return False
    return words[start] in word_set("having.txt") or words[start] in DENIALS


def _is_denied_item(reading: Reading, match: Match) -> bool:
    """Return whether the match is an item of a note by itself: "Sugar fine, no diabetes."."""
    words = (*reading.words[match.last + 1 : match.last + 2], "\n")
    before = reading.words[max(0, match.first - 2) : match.first]
    return len(before) == 2 and before[0] == "," and before[1] in DENIALS and words[0] in {".", ",", "\n", "!", ";"}
