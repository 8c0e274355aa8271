"""chrF++, 0–100, with sacrebleu's own values: character n-grams to 6, word n-grams to 2, recall counted twice.

This implementation takes about a third of sacrebleu's time (benchmarks/test_metrics_speed.py). ``corpus_chrf`` computes
thousands of resamples at once.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

import numpy as np

from harness.metrics.registry import Item, MetricSpec, ReplyMetric, Scores
from harness.metrics.text.overlap import Grams, ngram_total, ngrams, number_characters, shared_ngrams, shared_with
from harness.stats.types import FloatArray

CHARACTER_ORDERS = 6
WORD_ORDERS = 2
BETA_SQUARED = 4.0
PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
STATISTICS = tuple(
    f"{side}_{unit}{n}"
    for unit, orders in (("char", CHARACTER_ORDERS), ("word", WORD_ORDERS))
    for n in range(1, orders + 1)
    for side in ("reply", "reference", "match")
)


class Chrf(ReplyMetric):
    """Corpus chrF++; the value of each reply is the same formula over that reply's counts."""

    def __init__(self) -> None:
        self._expected = lru_cache(maxsize=8)(_read)  # a reference is scored against each variant in turn
        self.specs = (
            MetricSpec(
                name="quality.chrf",
                unit="chrF++",
                higher_is_better=True,
                aggregation="corpus",
                signature=f"nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|equal to sacrebleu:{version('sacrebleu')}",
                label="chrF++",
                scale="0–100",
                sees="Shared runs of up to six characters and two words; kinder to inflected forms than BLEU.",
                blind_to="Meaning; 'hypertension' and 'hypotension' look similar to it.",
                statistics=STATISTICS,
                combine=corpus_chrf,
            ),
        )

    def judge(self, item: Item, reply: str) -> Scores:
        name = self.specs[0].name
        counts = np.array(self.counts(item.reference, reply), dtype=np.float64)
        return Scores({name: float(corpus_chrf(counts))}, {name: tuple(counts.tolist())})

    def counts(self, reference: str, reply: str) -> list[int]:
        """Return sacrebleu's sufficient statistics: for each order the reply's, the reference's and matched n-grams."""
        expected, expected_words, grams = self._expected(reference)
        given, given_words = "".join(reply.split()), split_punctuation(reply)
        characters = shared_ngrams(*number_characters(given, expected), CHARACTER_ORDERS)
        words = shared_with(grams, given_words)
        return [
            *_triples(len(given), len(expected), characters),
            *_triples(len(given_words), expected_words, words),
        ]


def _read(reference: str) -> tuple[str, int, Grams]:
    words = split_punctuation(reference)
    return "".join(reference.split()), len(words), ngrams(words, WORD_ORDERS)


def _triples(given: int, expected: int, matches: list[int]) -> list[int]:
    triples = []
    for n, match in enumerate(matches, 1):
        in_reference = ngram_total(expected, n)
        # As sacrebleu: an order that the reference is too short for does not count against the reply.
        triples += [ngram_total(given, n) if in_reference else 0, in_reference, match]
    return triples


def split_punctuation(text: str) -> list[str]:
    """Return the words of a text with one punctuation mark split off their end, or else their start."""
    words: list[str] = []
    for word in text.split():
        if len(word) == 1 or word.isalnum():
            words.append(word)
        elif word[-1] in PUNCTUATION:
            words += [word[:-1], word[-1]]
        elif word[0] in PUNCTUATION:
            words += [word[0], word[1:]]
        else:
            words.append(word)
    return words


def corpus_chrf(sums: FloatArray) -> FloatArray:
    """Return chrF++ for summed statistics of shape (..., 24), as ``sacrebleu.CHRF`` does for one row."""
    counts = sums.reshape(*sums.shape[:-1], CHARACTER_ORDERS + WORD_ORDERS, 3)
    given, expected, match = counts[..., 0], counts[..., 1], counts[..., 2]
    effective = (given > 0) & (expected > 0)
    orders = np.maximum(effective.sum(axis=-1), 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        precision = np.where(effective, match / given, 0.0).sum(axis=-1) / orders
        recall = np.where(effective, match / expected, 0.0).sum(axis=-1) / orders
        score = 100 * (1 + BETA_SQUARED) * precision * recall / (BETA_SQUARED * precision + recall)
    return np.where(precision + recall > 0, score, 0.0)
