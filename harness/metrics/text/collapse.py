"""Whether a system says the same to everyone: replies that another question got too, exactly or nearly."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from itertools import islice

from harness.metrics.registry import EVERYTHING, Finding, Item, MetricSpec, Scores
from harness.metrics.text.words import UNSPACED

NAME = "quality.collapse"
BEGINNING = 50  # words of a reply that are compared: a system that says one thing to all rarely ends it alike
WIDTH = 3  # words a shingle
SIMILAR = 0.5  # Jaccard index of two replies' shingles from which they are nearly the same
REJECTED = 50  # candidates that may turn out to be legitimate before a reply counts as its own

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
        systems: dict[str, list[int]] = defaultdict(list)
        for place, item in enumerate(items):
            systems[item.system].append(place)
        scores: list[Scores] = [Scores({NAME: None}) for _ in items]
        for places in systems.values():
            own = [items[place] for place in places]
            for place, item, twin in zip(places, own, twins(own), strict=True):
                if item.reply is not None and shingles(item.reply):
                    found = () if twin is None else (Finding(NAME, f"also the reply to {twin}"),)
                    scores[place] = Scores({NAME: float(twin is not None)}, findings=found)
        return scores


def shingles(text: str) -> Shingles:
    """Return the distinct runs of three words in a text's beginning; a shorter text is one run of all its words."""
    words = [match.group() for match in islice(_WORD.finditer(text.lower()), BEGINNING)]
    width = min(WIDTH, len(words))
    return frozenset(zip(*(words[start:] for start in range(width)), strict=False)) if words else frozenset()


def twins(items: Sequence[Item]) -> list[str | None]:
    """Return, for each item, the ID of another question with nearly the same reply but not nearly the same reference.

    All pairs are found, without comparing each with each, by prefix filtering: two sets whose Jaccard index is at least
    t share one of the (1 - t)n + 1 rarest members of either (Chaudhuri, Ganti and Kaushik 2006; Bayardo, Ma and
    Srikant 2007).
    """
    replies = [shingles(item.reply or "") for item in items]
    references = [shingles(item.reference) for item in items]

    def legitimate(one: int, other: int) -> bool:
        same_question = items[one].prompt == items[other].prompt
        return same_question or jaccard(references[one], references[other]) >= SIMILAR

    found: list[str | None] = [None] * len(items)
    for place, candidates in enumerate(_candidates(replies)):
        rejected = 0
        for other in candidates:
            if jaccard(replies[place], replies[other]) < SIMILAR:
                continue
            if not legitimate(place, other):
                found[place] = items[other].id
                break
            rejected += 1
            if rejected == REJECTED:
                break
    return found


def jaccard(one: Shingles, other: Shingles) -> float:
    """Return |one ∩ other| / |one ∪ other|; 0 for two empty sets."""
    common = len(one & other)
    together = len(one) + len(other) - common
    return common / together if together else 0.0


def _candidates(sets: Sequence[Shingles]) -> Iterator[Iterator[int]]:
    """Return, for each set, the others that share one of its rarest members, each once."""
    counts = Counter(member for one in sets for member in one)
    prefixes = [sorted(one, key=lambda member: (counts[member], member))[: _prefix(len(one))] for one in sets]
    holders: dict[tuple[str, ...], list[int]] = defaultdict(list)
    for place, prefix in enumerate(prefixes):
        for member in prefix:
            holders[member].append(place)

    def others(place: int) -> Iterator[int]:
        seen = {place}
        for member in prefixes[place]:
            for other in holders[member]:
                if other not in seen:
                    seen.add(other)
                    yield other

    return (others(place) for place in range(len(sets)))


def _prefix(size: int) -> int:
    return int(size * (1 - SIMILAR)) + 1 if size else 0
