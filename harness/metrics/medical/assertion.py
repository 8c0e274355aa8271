"""Whether a text states a finding as present, absent, past or only possible, from cues around it (as in NegEx)."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import Literal

from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import Match, Reading
from harness.metrics.medical.turns import answer, said_by_clinician

Status = Literal["affirmed", "negated", "historic", "hypothetical"]
REACH = 8  # words between a cue and what it negates
REACH_AFTER = 4
YEAR = re.compile("(?:19|20)[0-9]{2}")
LONGEST_LIST = 60  # words from a cue to the last item of the list that it denies
LIST_MARKS = frozenset({",", "or", "nor", "and", "/"})
MODALS = frozenset({"can", "could", "will", "would", "does", "might", "may"})
FRAGMENT = 6  # tokens of a clinician's "Doctor: Fever or chills.", which asks
PUNCTUATION = frozenset(".!?;:,()\n")
SUBJECTS = frozenset({"i", "i'm", "i've", "he", "he's", "she", "she's", "we", "they", "it", "it's", "there", "my"})
CLAUSE_VERBS = frozenset(
    {"has", "have", "had", "is", "are", "was", "were", "complains", "reports", "admits", "started"}
)
JOINTS = frozenset({",", "and", "then", "so"})
PREPOSITIONS = frozenset({"of", "for", "from", "in", "to", "with", "over", "about", "on", "like", "as"})


def status(reading: Reading, match: Match) -> Status:
    """Return the status of a match in its sentence, or by the answer to the question that it is in."""
    answered = answer(reading, match)
    denied = _negated(reading, match)
    if answered == "no" or (answered is None and denied):
        return "negated"
    if denied:  # "No chest pain? Yes." may mean either
        return "hypothetical"
    if _historic(reading, match):
        return "historic"
    if answered == "yes":
        return "affirmed"
    owned = match.first > 0 and reading.words[match.first - 1] in {"my", "his", "her"}
    if _joined(reading, match) in word_set("prefixes_apart.txt") or (not owned and _supposed(reading, match)):
        return "hypothetical"
    return "affirmed"


def negated(reading: Reading, match: Match, reach: int = REACH, stops: frozenset[str] = frozenset()) -> bool:
    """Return whether a cue in front of the match negates it; words of ``stops`` end the cue's reach as well."""
    if _joined(reading, match) == "non":
        return True
    for kind in ("negation", "negation_of_verb"):
        for cue in reversed(reading.within(kind, reading.sentence[match.first])):
            if cue.last >= match.first:
                continue
            if match.first - cue.last > LONGEST_LIST:
                break
            between = reading.words[cue.last + 1 : match.first]
            if stops.intersection(between) or not _reaches(reading, cue, match, reach):
                continue
            if kind == "negation_of_verb":
                if "," in between and not _listed(reading, cue, match):
                    continue
                if between and not stops and between[0] not in word_set("denied_verbs.txt"):
                    continue  # "does not help my headache" denies the help
            elif not stops and _other_object(reading, cue, match):
                continue
            return True
    return False


def _reaches(reading: Reading, cue: Match, match: Match, reach: int) -> bool:
    """Return whether a cue in front of the match may speak of it, by what is between them."""
    between = reading.words[cue.last + 1 : match.first]
    if reading.clause[cue.first] != reading.clause[match.first] or _is_pseudo(reading, cue):
        return False
    if between and between[0] == ",":
        return False  # "No, I have ..."
    if _ended(reading, cue.last, match.first) or _new_subject(between):
        return False
    item = between[_last_item(between) :]
    if sum(word not in PUNCTUATION for word in item) > reach:
        return False
    if "," in between and reading.words[match.last + 1 : match.last + 2] and _begins_clause(reading, match):
        return False  # "No fever, chest pain started today"
    return not _compared(reading, match, cue)


def _last_item(between: tuple[str, ...]) -> int:
    """Return where the last item of a list begins."""
    return max((place + 1 for place, word in enumerate(between) if word in LIST_MARKS), default=0)


def _new_subject(between: tuple[str, ...]) -> bool:
    """Return whether a new statement begins: "no fever, I have ..." or "no fever and my ..."."""
    return any(before in JOINTS and (word in SUBJECTS or word in CLAUSE_VERBS) for before, word in pairwise(between))


def _begins_clause(reading: Reading, match: Match) -> bool:
    return reading.words[match.last + 1] in word_set("onset_verbs.txt")


def _compared(reading: Reading, match: Match, cue: Match) -> bool:
    """Return whether the denial is of the finding's like: "never had chest pain like this", "not such a headache"."""
    after = (*reading.words[match.last + 1 : match.last + 6], "")
    before = reading.words[cue.last + 1 : match.first]
    degrees = ("like", "this", "that", "so", "as", "such")
    if before and any(word in {"such", "worse"} for word in before):
        return True
    for first, second in pairwise(after):
        if first in PUNCTUATION:
            return False
        if first == "like" and second in {"this", "that", "these", "it"}:
            return True
        if first in degrees and second in word_set("severities.txt"):
            return True
        if first in {"before", "until", "till"} and reading.words[cue.last] in {"never", "haven't", "hadn't", "not"}:
            return True  # "I have never had chest pain before": what is now is not denied
    return False


def _other_object(reading: Reading, cue: Match, match: Match) -> bool:
    """Return whether the cue denies another noun, which the match only belongs to: "no relief from the headache"."""
    words = reading.words
    findings = _places_of_findings(reading, reading.sentence[match.first])
    first = cue.last + 1 + _last_item(words[cue.last + 1 : match.first])
    for place in range(first + 1, match.first):
        noun = words[place - 1]
        if words[place] == "with" and words[place + 1] in {"a", "an"}:
            continue  # "no blisters with a fever" denies both; "no help with the fever" speaks of one that is there
        if words[place] in PREPOSITIONS and noun not in word_set("denied_signs.txt") and place - 1 not in findings:
            return noun not in PUNCTUATION and noun not in {"and", "or", "nor", "any", "kind", "type", "sort"}
    return False


def _negated(reading: Reading, match: Match) -> bool:
    if negated(reading, match):
        return True
    if _next_joined(reading, match) == "free":
        return True  # "fever-free"
    for cue in reading.within("negation_after", reading.sentence[match.first]):
        gap = reading.words[match.last + 1 : cue.first]
        if (
            cue.first > match.last
            and len(gap) <= REACH_AFTER
            and reading.clause[cue.first] == reading.clause[match.last]
        ):
            return not PUNCTUATION.intersection(gap) and not _ended(reading, match.last, cue.first)
    return False


def _joined(reading: Reading, match: Match) -> str:
    """Return the prefix that a hyphen joins to the match: "non-contagious", "anti-cancer"."""
    before = reading.words[match.first - 1] if match.first else ""
    return before if before in {"non", *word_set("prefixes_apart.txt")} else ""


def _next_joined(reading: Reading, match: Match) -> str:
    following = reading.words[match.last + 1 : match.last + 3]
    if following[:1] != ("free",):
        return ""
    return "" if following[1:] in (("of",), ("from",)) else "free"


def _places_of_findings(reading: Reading, sentence: int) -> set[int]:
    return {
        place
        for lexicon in ("finding", "red_flag", "red_flag_part")
        for other in reading.within(lexicon, sentence)
        for place in range(other.first, other.last + 1)
    }


def _listed(reading: Reading, cue: Match, match: Match) -> bool:
    """Return whether the match is part of a list up to "or": "I don't have a fever, chest pain or a rash"."""
    _, end = reading.bounds(match)
    words = reading.words
    closed = False
    for place in range(cue.last + 1, end + 1):
        if closed and place > match.last:
            return True
        if match.first <= place <= match.last:
            continue
        if words[place] in SUBJECTS or words[place] in word_set("onset_verbs.txt"):
            return False
        closed = closed or words[place] in {"or", "nor"}
    return closed


def _is_pseudo(reading: Reading, cue: Match) -> bool:
    nearby = reading.within("pseudo_negation", reading.sentence[cue.first])
    return any(pseudo.first <= cue.first and cue.last <= pseudo.last for pseudo in nearby)


def _ended(reading: Reading, after: int, before: int) -> bool:
    nearby = reading.within("termination", reading.sentence[after])
    return any(after < end.first and end.last < before for end in nearby)


def _historic(reading: Reading, match: Match) -> bool:
    sentence = reading.sentence[match.first]
    clause = reading.clause[match.first]
    start, end = reading.bounds(match)
    near = reading.words[max(start, match.first - REACH) : min(end + 1, match.last + 1 + REACH)]
    recent = (cue for cue in reading.within("recent", sentence) if not _comma_between(reading, cue, match))
    if word_set("ongoing.txt").intersection(near) or any(recent):
        return False
    if _of_a_relative_s_past(reading, match):
        return True
    if any(YEAR.fullmatch(word) and before in {"in", "of", "since"} for before, word in pairwise(near)):
        return True
    for cue in reading.within("historic", sentence):
        if reading.clause[cue.first] != clause:
            continue
        before, after = match.first - cue.last - 1, cue.first - match.last - 1
        if 0 <= before <= REACH and not _parted(reading, cue.last, match.first):
            return True
        if 0 <= after <= REACH and not _parted(reading, match.last, cue.first):
            return True
    return False


def _comma_between(reading: Reading, one: Match, other: Match) -> bool:
    first, second = sorted((one, other), key=lambda match: match.first)
    return "," in reading.words[first.last + 1 : second.first]


def _parted(reading: Reading, after: int, before: int) -> bool:
    return _ended(reading, after, before) or _new_subject(reading.words[after + 1 : before])


def _of_a_relative_s_past(reading: Reading, match: Match) -> bool:
    """Return whether an elder or sibling had it, which is family history: "my father had a heart attack"."""
    start, _ = reading.bounds(match)
    before = reading.words[start : match.first + 1]
    elder = next((place for place, word in enumerate(before) if word in word_set("relatives.txt")), None)
    if elder is None:
        return False
    verbs = before[elder + 1 : elder + 5]
    if "never" in verbs:
        return False
    return bool({"had", "died", "suffered", "passed"}.intersection(verbs)) and not _parted(
        reading, start + elder, match.first
    )


def _supposed(reading: Reading, match: Match) -> bool:
    """Return whether the finding is only possible, or spoken of in general."""
    for cue in reading.within("hypothetical", reading.sentence[match.first]):
        if cue.last < match.first and not _parted(reading, cue.last, match.first):
            return True
    return _general_question(reading, match)


def _general_question(reading: Reading, match: Match) -> bool:
    """Return whether the match is in a question by the doctor, or about nobody ("Is chest pain serious?")."""
    start, end = reading.bounds(match)
    if said_by_clinician(reading, match) and (reading.words[end] == "?" or end - start <= FRAGMENT):
        return True
    if reading.words[end] != "?":
        return False
    people = word_set("people.txt")
    if reading.words[start] in MODALS and reading.words[start + 1] not in people:
        return reading.words[match.first - 1] not in {"this", "these", "my", "the"}  # "Could it make me suicidal?"
    return not people.intersection(reading.words[start : match.first])
