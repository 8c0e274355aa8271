"""ROUGE-1, -2, -L and -Lsum: F1 of shared words, 0–1, with rouge_score's own values.

What many papers publish as "ROUGE-L" is ROUGE-Lsum (sentences split at newlines); both are reported separately here.
This implementation takes a twentieth of rouge_score's time (benchmarks/test_metrics_speed.py).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.metadata import version
from itertools import chain

from harness.metrics.registry import Item, MetricSpec, ReplyMetric, Scores, not_defined
from harness.metrics.text.overlap import Grams, ngram_total, ngrams, shared_with
from harness.metrics.text.subsequence import lcs_length, union_lcs_hits
from harness.metrics.text.words import unreadable, words_of

KINDS = {
    "rouge_1": ("ROUGE-1", "shared words"),
    "rouge_2": ("ROUGE-2", "shared pairs of adjacent words"),
    "rouge_l": ("ROUGE-L", "the longest common subsequence of words, line breaks ignored"),
    "rouge_lsum": ("ROUGE-Lsum", "the longest common subsequences line by line; papers often print it as ROUGE-L"),
}
Lines = tuple[tuple[str, ...], ...]


class Rouge(ReplyMetric):
    """The ROUGE family; ``stemmer`` is Porter's, which changes ROUGE-1 by 2–3 points, so it is in the signature."""

    def __init__(self, stemmer: bool = False, words: str = "latin") -> None:
        self._kind = words
        self._words = words_of(words)
        self._stem = _porter() if stemmer else None
        self._expected = lru_cache(maxsize=8)(self._read)  # a reference is scored against each variant in turn
        stem = "porter" if stemmer else "no"
        same = f"equal to rouge_score:{version('rouge_score')}"
        tokens = "words of any script, characters where it has no spaces" if words == "unicode" else f"a-z0-9|{same}"
        self.specs = tuple(
            MetricSpec(
                name=f"quality.{kind}",
                unit="F1",
                higher_is_better=True,
                aggregation="mean",
                signature=f"{kind}|f1|stem:{stem}|tok:{tokens}",
                label=label,
                scale="0–1",
                sees=f"Overlap with the reference: {what}.",
                blind_to="Meaning: paraphrases score low; one wrong drug or a missing 'not' hardly lowers the score.",
            )
            for kind, (label, what) in KINDS.items()
        )

    def judge(self, item: Item, reply: str) -> Scores:
        names = [spec.name for spec in self.specs]
        if unreadable(item.reference, self._kind):
            return not_defined(names, "the reference is not in Latin letters; set metric_options.words to unicode")
        return Scores(dict(zip(names, self.f1(item.reference, reply), strict=True)))

    def f1(self, reference: str, reply: str) -> tuple[float, float, float, float]:
        """Return ROUGE-1, -2, -L and -Lsum of one reply."""
        reference_lines, expected, grams = self._expected(reference)
        reply_lines = self._lines(reply)
        given = list(chain.from_iterable(reply_lines))
        one, two = shared_with(grams, given)
        longest = lcs_length(expected, given)
        if len(reference_lines) == 1 and len(reply_lines) == 1:
            union = longest
        else:
            union = union_lcs_hits(reference_lines, reply_lines)
        sizes = len(expected), len(given)
        pairs = ngram_total(len(expected), 2), ngram_total(len(given), 2)
        return f_measure(one, *sizes), f_measure(two, *pairs), f_measure(longest, *sizes), f_measure(union, *sizes)

    def _read(self, reference: str) -> tuple[Lines, list[str], Grams]:
        lines = self._lines(reference)
        words = list(chain.from_iterable(lines))
        return lines, words, ngrams(words, 2)

    def _lines(self, text: str) -> Lines:
        words = [self._words(line) for line in text.split("\n")]
        if self._stem is not None:
            words = [[self._stem(word) for word in line] for line in words]
        return tuple(tuple(line) for line in words if line)


def f_measure(hits: int, expected: int, given: int) -> float:
    """Return the F1 of ``hits`` among ``expected`` and ``given``; 0 where there are none."""
    precision, recall = hits / max(given, 1), hits / max(expected, 1)
    return 2 * precision * recall / (precision + recall) if precision + recall > 0 else 0.0


def _porter() -> Callable[[str], str]:
    from nltk.stem.porter import PorterStemmer

    porter = PorterStemmer()

    @lru_cache(maxsize=100_000)
    def stem(word: str) -> str:
        return str(porter.stem(word)) if len(word) > 3 else word  # as in rouge_score, short words are kept

    return stem
