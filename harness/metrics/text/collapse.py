"""Whether a system says the same to everyone: replies that another question got too, exactly or nearly.

``near_copies`` finds the pairs.
"""

from __future__ import annotations

import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from itertools import islice

from harness.metrics.registry import EVERYTHING, Finding, Item, MetricSpec, Scores
from harness.metrics.text.near_copies import SIMILAR, WIDTH, Beginnings, Vocabulary, twins
from harness.metrics.text.words import UNSPACED

NAME = "quality.collapse"
BEGINNING = 50  # words of a reply that are compared: a system that says one thing to all rarely ends it alike

# A character of a script without spaces is a word.
_WORD = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+")

Shingles = frozenset[tuple[str, ...]]


class Collapse:
    """1 if the system gave another question the same reply, or nearly the same, and the references did not."""

    at_once = EVERYTHING
    specs: tuple[MetricSpec, ...] = (
        MetricSpec(
            name=NAME,
            unit="share of replies",
            higher_is_better=False,
            aggregation="rate",
            signature=f"collapse|first {BEGINNING} words, Jaccard of {WIDTH}-word shingles >= {SIMILAR}|v1",
            label="Same reply to another question",
            scale="0–1",
            sees="Replies that begin as the reply to another question does, word for word or with most of the wording.",
            blind_to="One answer to all in ever new words. What the two references have in common too does not count.",
        ),
    )

    def score(self, items: Sequence[Item]) -> list[Scores]:
        """Return one Scores per item; replies are compared within their system."""
        beginnings: dict[str, Beginnings] = defaultdict(partial(Beginnings, Vocabulary()))
        places: dict[str, array[int]] = defaultdict(lambda: array("q"))
        for place, item in enumerate(items):
            if item.reply is not None and (words := first_words(item.reply)):
                beginnings[item.system].add(words)
                places[item.system].append(place)
        nothing, own = Scores({NAME: None}), Scores({NAME: 0.0})
        scores = [nothing] * len(items)
        for system, own_places in places.items():
            found = twins(beginnings.pop(system).shingles(), _same_question(items, own_places))
            for place, twin in zip(own_places, found, strict=True):
                scores[place] = own if twin is None else _with_twin(items[own_places[twin]].id)
        return scores


def _with_twin(id: str) -> Scores:
    return Scores({NAME: 1.0}, findings=(Finding(NAME, f"also the reply to {id}"),))


def first_words(text: str) -> list[str]:
    """Return the words of a text's beginning in lower case."""
    return [match.group() for match in islice(_WORD.finditer(text.lower()), BEGINNING)]


def _same_question(items: Sequence[Item], places: Sequence[int]) -> Callable[[int, int], bool]:
    """Return whether two dialogues may have the same reply: they ask the same, or their references are alike."""

    @lru_cache(maxsize=1024)  # what many texts share is compared with the same few; reading an item takes long
    def asked(place: int) -> tuple[str, Shingles]:
        item = items[places[place]]
        return item.prompt, shingles(item.reference)

    def same(one: int, other: int) -> bool:
        (prompt, reference), (their_prompt, their_reference) = asked(one), asked(other)
        return prompt == their_prompt or jaccard(reference, their_reference) >= SIMILAR

    return same


def shingles(text: str) -> Shingles:
    """Return the distinct runs of three words in a text's beginning; a shorter text is one run of all its words."""
    words = first_words(text)
    width = min(WIDTH, len(words))
    return frozenset(zip(*(words[start:] for start in range(width)), strict=False)) if words else frozenset()


def jaccard(one: Shingles, other: Shingles) -> float:
    """Return |one ∩ other| / |one ∪ other|; 0 for two empty sets."""
    common = len(one & other)
    together = len(one) + len(other) - common
    return common / together if together else 0.0
