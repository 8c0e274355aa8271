"""Data whose truth is known, for ``benchmarks.calibration``: pairs of variants, and single values."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from harness.metrics.text.bleu import Bleu, corpus_bleu
from harness.stats.samples import ratio_of_sums
from harness.stats.types import Aggregate, FloatArray, Kind, Samples

Generator = np.random.Generator
Pair = tuple[Samples, Samples]
Values = Callable[[Generator, int], FloatArray]


@dataclass(frozen=True)
class Case:
    """One row of a table. ``draw(generator, n)`` gives candidate and reference over n units.

    ``truth`` is the true difference. ``moves``: adding a constant to the candidate only moves the interval, so that
    one simulation answers for every margin; ``spread`` is then the standard deviation of the differences.
    """

    name: str
    draw: Callable[[Generator, int], Pair]
    truth: float = 0.0
    moves: bool = True
    spread: float = 1.0


def samples(statistics: FloatArray, kind: Kind, clusters: tuple[str, ...] | None, aggregate: Aggregate) -> Samples:
    return Samples(_ids(len(statistics)), statistics, aggregate, kind, clusters)


@cache
def _ids(n: int) -> tuple[str, ...]:
    return tuple(f"u{index:06}" for index in range(n))


def _mean(values: FloatArray, kind: Kind = "mean", clusters: tuple[str, ...] | None = None) -> Samples:
    return samples(np.column_stack([values, np.ones(len(values))]), kind, clusters, ratio_of_sums)


def _differing(values: Values) -> Callable[[Generator, int], Pair]:
    def draw(generator: Generator, n: int) -> Pair:
        reference = generator.normal(size=n)
        return _mean(reference + values(generator, n)), _mean(reference)

    return draw


def _some(share: float, values: Values) -> Values:
    return lambda generator, n: np.where(generator.random(n) < share, values(generator, n), 0.0)


def _signs(generator: Generator, n: int) -> FloatArray:
    return generator.choice([-1.0, 1.0], n)


VALUES: dict[str, tuple[Values, float]] = {  # with their standard deviation; true mean 0
    "normal": (lambda generator, n: generator.normal(size=n), 1.0),
    "exponential": (lambda generator, n: generator.exponential(size=n) - 1.0, 1.0),
    "lognormal": (lambda generator, n: generator.lognormal(size=n) - math.exp(0.5), math.sqrt((math.e - 1) * math.e)),
    "t(3)": (lambda generator, n: generator.standard_t(3, n), math.sqrt(3.0)),
    "tied: −1, 0, 0, 1": (lambda generator, n: generator.choice([-1.0, 0.0, 0.0, 1.0], n), math.sqrt(0.5)),
    "5 % differ, normal": (_some(0.05, lambda generator, n: generator.normal(size=n)), math.sqrt(0.05)),
    "5 % differ, exponential": (
        _some(0.05, lambda generator, n: _signs(generator, n) * generator.exponential(size=n)),
        math.sqrt(0.1),
    ),
}


def _turns(generator: Generator, n: int) -> tuple[np.ndarray, tuple[str, ...]]:
    """Return the conversation of each turn, by number and by name: n conversations of one to eight turns."""
    sizes = generator.integers(1, 9, n)
    index = np.repeat(np.arange(n), sizes)
    names = _ids(n)
    return index, tuple(names[one] for one in index)


def _conversations(generator: Generator, n: int) -> Pair:
    """Half of the variance is shared by the turns of a conversation."""
    index, names = _turns(generator, n)
    differences = generator.normal(size=n)[index] + generator.normal(size=len(index))
    reference = generator.normal(size=len(index))
    return _mean(reference + differences, clusters=names), _mean(reference, clusters=names)


def _rates(gain: float, loss: float) -> Callable[[Generator, int], Pair]:
    def draw(generator: Generator, n: int) -> Pair:
        chance = generator.random(n)
        candidate = np.where(chance < gain, 1.0, 0.0)
        reference = np.where((chance >= gain) & (chance < gain + loss), 1.0, 0.0)
        return _mean(candidate, "rate"), _mean(reference, "rate")

    return draw


def _clustered_rates(gain: float, loss: float) -> Callable[[Generator, int], Pair]:
    """Conversations differ in how likely their turns are to change: beta, with an intraclass correlation of 1/3."""

    def draw(generator: Generator, n: int) -> Pair:
        index, names = _turns(generator, n)
        share = gain + loss
        chances = generator.beta(2.0 * share, 2.0 * (1.0 - share), n)[index]
        changed = generator.random(len(index)) < chances
        gained = (generator.random(n) < gain / share)[index]
        candidate, reference = (np.where(changed & side, 1.0, 0.0) for side in (gained, ~gained))
        return _mean(candidate, "rate", names), _mean(reference, "rate", names)

    return draw


def _nll(generator: Generator, n: int) -> Pair:
    """References of very unequal lengths: their logarithm has a standard deviation of 1.5, the longest are 200 times
    as long as the shortest."""
    tokens = np.ceil(20.0 * generator.lognormal(0.0, 1.5, n))
    reference = tokens * generator.gamma(16.0, 0.125, n)
    candidate = reference + tokens * generator.normal(0.0, 0.1, n)
    sides = (np.column_stack([nll, tokens]) for nll in (candidate, reference))
    one, two = (samples(side, "corpus", None, ratio_of_sums) for side in sides)
    return one, two


@cache
def _bleu_pool() -> FloatArray:
    """Return the statistics of 2,000 references' two replies, shape (2, 2000, k): words kept or replaced at random."""
    generator = np.random.default_rng(0)
    metric, words = Bleu(), np.array([f"w{index}" for index in range(500)])
    weights = 1.0 / np.arange(1, 501)
    made: list[list[list[int]]] = [[], []]
    for _ in range(2000):
        reference = generator.choice(words, generator.integers(10, 80), p=weights / weights.sum())
        for side in made:
            other = generator.choice(words, reference.size, p=weights / weights.sum())
            reply = np.where(generator.random(reference.size) < generator.uniform(0.2, 0.9), reference, other)
            side.append(metric.counts(" ".join(reference), " ".join(reply)))
    return np.array(made, dtype=np.float64)


def _bleu(generator: Generator, n: int) -> Pair:
    """Which of the two replies is the candidate's is chosen at random, so the true difference is 0."""
    chosen, first = generator.integers(0, 2000, n), generator.integers(0, 2, n)
    sides = (_bleu_pool()[side, chosen] for side in (first, 1 - first))
    one, two = (samples(side, "corpus", None, corpus_bleu) for side in sides)
    return one, two


EQUAL = (
    *(Case(name, _differing(draw), spread=spread) for name, (draw, spread) in VALUES.items()),
    Case("conversations of 1 to 8 turns", _conversations, moves=False),
    Case("nll, very unequal lengths", _nll, spread=0.1),
    Case("corpus BLEU", _bleu, moves=False),
    Case("rates, 2 % of the units differ", _rates(0.01, 0.01), moves=False),
    Case("rates, 20 % of the units differ", _rates(0.1, 0.1), moves=False),
    Case("rates in conversations, 20 % of the turns differ", _clustered_rates(0.1, 0.1), moves=False),
)
LOSSES = (
    Case("means, 5 % lose, all by 1", _differing(_some(0.05, lambda _, n: np.full(n, -1.0))), -0.05),
    Case("means, 5 % lose, exponential", _differing(_some(0.05, lambda g, n: -g.exponential(size=n))), -0.05),
    Case("means, 20 % lose, exponential", _differing(_some(0.2, lambda g, n: -g.exponential(size=n))), -0.2),
    Case("rates, 2 % lose", _rates(0.0, 0.02), -0.02),
    Case("rates, 20 % lose", _rates(0.0, 0.2), -0.2),
    Case("rates, 1 % gain and 3 % lose", _rates(0.01, 0.03), -0.02),
    Case("rates in conversations, 5 % lose", _clustered_rates(0.0, 0.05), -0.05),
)
SINGLE: dict[str, tuple[Values, float]] = {
    "normal": (VALUES["normal"][0], 0.0),
    "exponential": (VALUES["exponential"][0], 0.0),
    "lognormal": (VALUES["lognormal"][0], 0.0),
    "t(3)": (VALUES["t(3)"][0], 0.0),
    "5 % above 0, exponential": (_some(0.05, lambda generator, n: generator.exponential(size=n)), 0.05),
}
"""Values of one variant, with their true mean."""


def single(name: str, generator: Generator, n: int) -> Samples:
    return _mean(SINGLE[name][0](generator, n))
