"""BLEU, 0–100, with sacrebleu's own values: corpus BLEU from summed counts, tokenizer 13a, exponential smoothing.

This implementation takes about half of sacrebleu's time (benchmarks/test_metrics_speed.py) and keeps no text, while
sacrebleu caches the last 65,536 tokenised texts. ``corpus_bleu`` computes thousands of resamples at once.
"""

from __future__ import annotations

import re
import string
from collections.abc import Sequence
from functools import lru_cache
from importlib.metadata import version

import numpy as np

from harness.metrics.language import script
from harness.metrics.registry import Item, MetricSpec, ReplyMetric, Scores, not_defined
from harness.metrics.text.overlap import Grams, ngram_total, ngrams, shared_with
from harness.metrics.text.words import UNSPACED_SCRIPTS, sacrebleu_tokenizer
from harness.stats.types import FloatArray

ORDERS = 4
ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
# Every ASCII mark is a token except these four; full stops and commas are unless a digit is adjacent.
SPACED_MARKS = {ord(mark): f" {mark} " for mark in string.punctuation if mark not in ".,-'"}
AFTER_NO_DIGIT = re.compile(r"([^0-9])([.,])")
BEFORE_NO_DIGIT = re.compile(r"([.,])([^0-9])")
DASH_AFTER_DIGIT = re.compile(r"([0-9])(-)")
STATISTICS = (
    "reply_length",
    "reference_length",
    *(f"{kind}_{n}" for kind in ("correct", "total") for n in range(1, 5)),
)


def tokenize_13a(text: str) -> list[str]:
    """Return the tokens of sacrebleu's tokenizer 13a (mteval-v13a)."""
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in ENTITIES:
        line = line.replace(entity, character)
    tokens: list[str] = []
    for word in line.split():
        if word.isalnum():
            tokens.append(word)
        else:
            tokens += _split_marks(word)
    return tokens


@lru_cache(maxsize=1 << 16)
def _split_marks(word: str) -> tuple[str, ...]:
    """Return the tokens of a word between spaces; none of the expressions looks further."""
    word = f" {word} ".translate(SPACED_MARKS)
    word = AFTER_NO_DIGIT.sub(r"\1 \2 ", word)
    word = BEFORE_NO_DIGIT.sub(r" \1 \2", word)
    return tuple(DASH_AFTER_DIGIT.sub(r"\1 \2 ", word).split())


class Bleu(ReplyMetric):
    """Corpus BLEU; the value of each reply is sentence BLEU with effective order, as sacrebleu recommends."""

    def __init__(self, tokenizer: str = "13a") -> None:
        split = tokenize_13a if tokenizer == "13a" else sacrebleu_tokenizer(tokenizer)
        self._words = split
        self._expected = lru_cache(maxsize=8)(self._read)  # a reference is scored against each variant in turn
        self._tokenizer = tokenizer
        self.specs = (
            MetricSpec(
                name="quality.bleu",
                unit="BLEU",
                higher_is_better=True,
                aggregation="corpus",
                signature=(
                    f"nrefs:1|case:mixed|eff:no|tok:{tokenizer}|smooth:exp|equal to sacrebleu:{version('sacrebleu')}"
                ),
                label="BLEU",
                scale="0–100",
                sees="Shared runs of up to four words, with a penalty for replies shorter than the reference.",
                blind_to="Meaning, and any wording other than the one reference's.",
                statistics=STATISTICS,
                combine=corpus_bleu,
            ),
        )

    def judge(self, item: Item, reply: str) -> Scores:
        name = self.specs[0].name
        if self._tokenizer == "13a" and script(item.reference) in UNSPACED_SCRIPTS:
            return not_defined([name], "the reference has no spaces between words; set metric_options.bleu_tokenizer")
        counts = self.counts(item.reference, reply)
        return Scores({name: sentence_bleu(counts)}, {name: tuple(map(float, counts))})

    def counts(self, reference: str, reply: str) -> list[int]:
        """Return sacrebleu's sufficient statistics: both lengths, matched n-grams, n-grams of the reply."""
        expected, grams = self._expected(reference)
        given = self._words(reply)
        totals = [ngram_total(len(given), n) for n in range(1, ORDERS + 1)]
        return [len(given), expected, *shared_with(grams, given), *totals]

    def _read(self, reference: str) -> tuple[int, Grams]:
        words = self._words(reference)
        return len(words), ngrams(words, ORDERS)


def corpus_bleu(sums: FloatArray) -> FloatArray:
    """Return BLEU for summed statistics of shape (..., 10), as ``sacrebleu.BLEU.compute_bleu`` does for one row."""
    length, expected = sums[..., 0], sums[..., 1]
    correct, total = sums[..., 2 : 2 + ORDERS], sums[..., 2 + ORDERS :]
    with np.errstate(divide="ignore", invalid="ignore"):
        penalty = np.where(length < expected, np.exp(1 - expected / length), 1.0)
        smoothing = 2.0 ** np.cumsum(correct == 0, axis=-1)  # each order without a match halves the substitute
        precision = np.where(correct == 0, 100.0 / (smoothing * total), 100.0 * correct / total)
        score = penalty * np.exp(np.log(precision).mean(axis=-1))
    defined = (correct.sum(axis=-1) > 0) & (total > 0).all(axis=-1)
    return np.where(defined, score, 0.0)


def sentence_bleu(counts: Sequence[int]) -> float:
    """Return BLEU of one reply over the orders it is long enough for."""
    from sacrebleu import BLEU

    length, expected, *matches = counts
    correct, total = matches[:ORDERS], matches[ORDERS:]
    return float(BLEU.compute_bleu(correct, total, length, expected, smooth_method="exp", effective_order=True).score)
