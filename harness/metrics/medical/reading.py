"""Parse a text in one pass: its words, its sentences, and every phrase of the lexicons in it.

All medical rules share the result, so that a text is scanned once. One automaton has the phrases of all lexicons, and
matching takes linear time for any text.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import accumulate
from typing import NamedTuple, Protocol

from harness.metrics.medical.lexicons import expand, read_lines, read_table, read_yaml

TOKEN = re.compile(r"\d+(?:[.,]\d+)+|[^\W_]+(?:'[^\W_]+)*|&|[.!?;:,()\n]")
# The same in lower-case ASCII, in half the time; what comes first passes over spaces.
ASCII_TOKEN = re.compile(r"(?=[0-9a-z&.!?;:,()\n])(?:[0-9]+(?:[.,][0-9]+)+|[a-z0-9]+(?:'[a-z0-9]+)*|&|[.!?;:,()\n])")
APOSTROPHES = str.maketrans({"’": "'", "‘": "'", "ʼ": "'", "`": "'"})
SENTENCE_ENDS = frozenset(".!?\n")
LONGEST_SENTENCE = 120  # words; a longer one is split, so that lookups within a sentence take bounded time
NEEDS_OBJECT = "refusal of"  # the key of phrases that decline only together with an object
PART = "red_flag_part"  # one half of a red flag that two findings make together
CLAUSE_ENDS = SENTENCE_ENDS | {";", ":"}


class Match(NamedTuple):
    """A phrase in a text: its lexicon, its key, and its first and last word (indices into ``Reading.words``)."""

    lexicon: str
    key: str
    first: int
    last: int


@dataclass(frozen=True, eq=False)
class Reading:
    """A parsed text. ``sentence`` and ``clause`` have the number of each word's sentence and clause.

    Equal only to itself, so that what is found in a text can be cached by its reading.
    """

    text: str
    words: tuple[str, ...]
    sentence: tuple[int, ...]
    clause: tuple[int, ...]
    matches: dict[str, tuple[Match, ...]]
    by_sentence: dict[tuple[str, int], list[Match]]

    @cached_property
    def spans(self) -> list[tuple[int, int]]:
        """The position of each word in the text. Only findings are quoted, so most texts never need it."""
        folded = fold(self.text)
        return [found.span() for found in _token(folded).finditer(folded)]

    def of(self, lexicon: str) -> tuple[Match, ...]:
        """Return a lexicon's matches in the order of the text, the longest where several overlap."""
        return self.matches.get(lexicon, ())

    def within(self, lexicon: str, sentence: int) -> Sequence[Match]:
        """Return a lexicon's matches that begin in one sentence."""
        return self.by_sentence.get((lexicon, sentence), ())

    @cached_property
    def begins(self) -> list[int]:
        """The place where each sentence begins, and the number of words."""
        return [bisect_left(self.sentence, sentence) for sentence in range(self.sentence[-1] + 2)]

    @cached_property
    def colons(self) -> list[int]:
        """The places of all colons: a speaker's name may stand before one."""
        return [place for place, word in enumerate(self.words) if word == ":"]

    def bounds(self, match: Match) -> tuple[int, int]:
        """Return the indices of the first and the last word of a match's sentence."""
        sentence = self.sentence[match.first]
        return self.begins[sentence], self.begins[sentence + 1] - 1

    def end_of(self, sentence: int) -> int:
        """Return the index of a sentence's last word."""
        return self.begins[sentence + 1] - 1

    def quote(self, match: Match) -> str:
        """Return the text of a match."""
        return self.text[self.spans[match.first][0] : self.spans[match.last][1]]


@lru_cache(maxsize=16)
def fold(text: str) -> str:
    """Return the text in lower case with plain apostrophes, character for character (some lower cases are longer)."""
    lowered = text.lower()
    if len(lowered) != len(text):
        lowered = "".join(low if len(low := character.lower()) == 1 else character for character in text)
    return lowered.translate(APOSTROPHES)


def _token(folded: str) -> re.Pattern[str]:
    return ASCII_TOKEN if folded.isascii() else TOKEN


@lru_cache(maxsize=16)
def read(text: str) -> Reading:
    """Return the reading of a text; the most recent ones are cached."""
    folded = fold(text)
    words = tuple(_token(folded).findall(folded))
    sentences, clauses = _number_sentences(words)
    matches = _find(words)
    by_sentence: dict[tuple[str, int], list[Match]] = {}
    for lexicon, found in matches.items():
        for match in found:
            by_sentence.setdefault((lexicon, sentences[match.first]), []).append(match)
    return Reading(text, words, tuple(sentences), tuple(clauses), matches, by_sentence)


def _number_sentences(words: tuple[str, ...]) -> tuple[list[int], list[int]]:
    """Return the numbers of each word's sentence and clause."""
    sentences: list[int] = []
    clauses: list[int] = []
    sentence = clause = clause_start = sentence_start = 0
    for place, word in enumerate(words):
        ends = word in SENTENCE_ENDS or place - sentence_start >= LONGEST_SENTENCE
        if ends or word in CLAUSE_ENDS:
            clauses += [clause] * (place + 1 - clause_start)
            clause, clause_start = clause + 1, place + 1
            if ends:
                sentences += [sentence] * (place + 1 - sentence_start)
                sentence, sentence_start = sentence + 1, place + 1
    sentences += [sentence] * (len(words) - sentence_start)
    clauses += [clause] * (len(words) - clause_start)
    return sentences, clauses


def _find(words: tuple[str, ...]) -> dict[str, tuple[Match, ...]]:
    hits = list(_automaton().iter(f" {' '.join(words)} "))  # phrases have a space at both ends: whole words only
    if not hits:
        return {}
    at = {start: place for place, start in enumerate(accumulate([len(word) + 1 for word in words], initial=0))}
    found: dict[str, list[Match]] = {}
    for end, (length, entries) in hits:
        first, last = at[end - length + 1], at[end] - 1
        for lexicon, key in entries:
            found.setdefault(lexicon, []).append(Match(lexicon, key, first, last))
    parts = tuple(found.pop(PART, ()))  # of several rules, which may share words
    longest = {lexicon: _longest(matches) for lexicon, matches in found.items()}
    return longest | ({PART: parts} if parts else {})


def _longest(matches: list[Match]) -> tuple[Match, ...]:
    """Return the matches from left to right; of overlapping ones, the one that begins first and is longest."""
    if len(matches) == 1:
        return tuple(matches)
    kept: list[Match] = []
    for match in sorted(matches, key=lambda match: (match.first, -match.last)):
        if not kept or match.first > kept[-1].last:
            kept.append(match)
    return tuple(kept)


class _Automaton(Protocol):
    """The used part of ``ahocorasick.Automaton``: where phrases end, with their length and lexicon entries."""

    def iter(self, text: str) -> Iterator[tuple[int, tuple[int, tuple[tuple[str, str], ...]]]]: ...


@cache
def _automaton() -> _Automaton:
    import ahocorasick

    phrases: dict[str, set[tuple[str, str]]] = {}
    for lexicon, key, patterns in _entries():
        for pattern in patterns:
            for phrase in expand(pattern):
                normal = " ".join(TOKEN.findall(fold(phrase)))
                if normal:
                    phrases.setdefault(normal, set()).add((lexicon, key))
    automaton = ahocorasick.Automaton()
    for phrase, entries in phrases.items():
        automaton.add_word(f" {phrase} ", (len(phrase) + 2, tuple(sorted(entries))))
    automaton.make_automaton()
    made: _Automaton = automaton
    return made


def _entries() -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yield lexicon, key and patterns of every phrase list."""
    for category, entry in read_yaml("red_flags.yaml").items():
        yield "red_flag", category, entry["phrases"]
        for number, groups in enumerate(entry.get("together", ())):
            for place, group in enumerate(groups):
                yield PART, f"{category}/{number}/{place}", group
    for kind, patterns in read_yaml("urgent_advice.yaml").items():
        yield f"advice_{kind}", kind, patterns
    yield "provoked", "provoked", read_lines("provoked.txt")
    for kind, patterns in read_yaml("assertion.yaml").items():
        yield kind, kind, patterns
    for pattern in read_lines("refusals.txt"):
        yield "refusal", "refusal", [pattern]
    for pattern in read_lines("refusals_of.txt"):
        yield "refusal", NEEDS_OBJECT, [pattern]
    for finding, others, absent in read_table("findings.tsv", 3):
        ways = [finding, *filter(None, others.split(";"))]
        yield "finding", finding, ways
        joined = [f"{prefix}{name}" for name in ways if name.isalpha() for prefix in ("non", "un")]
        yield "absent", finding, [*joined, *filter(None, absent.split(";"))]
    for generic, _, others in read_table("drugs.tsv", 3):
        yield "drug", generic, [generic, *filter(None, others.split(";"))]
    for name, others in read_table("supplements.tsv", 2):
        yield "supplement", name, [name, *filter(None, others.split(";"))]
    for group, names in read_table("drug_classes.tsv", 2):
        yield "drug_class", group, names.split(";")


@cache
def drug_classes() -> dict[str, str]:
    """Return the class of each medication, by its generic name."""
    return {generic: group for generic, group, _ in read_table("drugs.tsv", 3)}


@cache
def red_flag_labels() -> dict[str, str]:
    """Return the label of each category of red flags."""
    return {category: entry["label"] for category, entry in read_yaml("red_flags.yaml").items()}
