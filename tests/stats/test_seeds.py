"""Several seeds of one recipe: against a two-way random effects model computed in another way, and simulated truth."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import pytest
from scipy.stats import t

from benchmarks.training_seeds import MIXTURES, drawn, simulated
from harness.stats.samples import from_statistics, from_values, ratio_of_sums
from harness.stats.seeds import TWO, SeedsEvidence, weigh_seeds
from harness.stats.types import FloatArray, Samples
from tests.stats import ask


def samples(values: Sequence[float | None] | FloatArray) -> Samples:
    return from_values([f"d{place:04}" for place in range(len(values))], list(values))


def weighed(seeds: Sequence[Samples], reference: Samples, resamples: int = 300) -> SeedsEvidence:
    return weigh_seeds(seeds, reference, partial(ask.sums, resamples=resamples, seed=1))


def mean_squares(table: FloatArray) -> tuple[float, float, float]:
    """Return the mean squares of rows, columns and residuals, by least squares on indicator variables."""
    n, k = table.shape
    rows, columns = np.repeat(np.eye(n), k, axis=0), np.tile(np.eye(k), (n, 1))

    def left(design: FloatArray) -> float:
        found, *_ = np.linalg.lstsq(design, table.ravel(), rcond=None)
        return float(((table.ravel() - design @ found) ** 2).sum())

    both = left(np.hstack([rows, columns]))
    return (left(columns) - both) / (n - 1), (left(rows) - both) / (k - 1), both / ((n - 1) * (k - 1))


def half_width(evidence: SeedsEvidence) -> float:
    found = evidence.difference()
    assert found.low is not None
    assert found.high is not None
    return (found.high - found.low) / 2


def test_the_interval_is_that_of_a_two_way_random_effects_model() -> None:
    generator = np.random.default_rng(3)
    n, k = 60, 4
    table = 0.1 + generator.normal(size=(n, 1)) + 0.4 * generator.normal(size=(1, k)) + generator.normal(size=(n, k))
    reference = generator.normal(size=n)
    evidence = weighed([samples(reference + table[:, seed]) for seed in range(k)], samples(reference))

    rows, columns, rest = mean_squares(table)
    variance = (rows + columns - rest) / (n * k)
    assert variance > max(rows, columns) / (n * k)  # so that neither component is cut to zero
    of_dialogues = evidence.dialogues.bootstrap
    assert of_dialogues is not None
    assert of_dialogues.standard_error == pytest.approx(np.sqrt(rows / (n * k)))
    assert evidence.residual == pytest.approx(rest / (n * k))
    parts = ((rows, of_dialogues.freedom), (columns, k - 1), (rest, (n - 1) * (k - 1)))
    freedom = (rows + columns - rest) ** 2 / sum(square**2 / (known or 0) for square, known in parts)
    assert evidence.difference().value == pytest.approx(table.mean())
    assert half_width(evidence) == pytest.approx(t.ppf(0.975, freedom) * np.sqrt(variance))


def test_a_corpus_metric_takes_the_jackknifes_pulls() -> None:
    generator = np.random.default_rng(4)
    n, k = 40, 3
    tokens = generator.integers(5, 60, n).astype(float)
    totals = [tokens * (2 + generator.normal(0, 0.1) + generator.normal(0, 0.3, n)) for _ in range(k + 1)]
    ids = [f"d{place:04}" for place in range(n)]
    every = [from_statistics(ids, np.column_stack([one, tokens]).tolist(), ratio_of_sums, columns=2) for one in totals]
    evidence = weighed(every[:k], every[k])

    def value(one: FloatArray, kept: FloatArray) -> float:
        return float(one[kept].sum() / tokens[kept].sum() - totals[k][kept].sum() / tokens[kept].sum())

    everyone = np.arange(n)
    whole = [value(one, everyone) for one in totals[:k]]
    assert evidence.each == pytest.approx(whole)
    pseudo = np.array(
        [[n * whole[s] - (n - 1) * value(totals[s], np.delete(everyone, i)) for s in range(k)] for i in everyone]
    )
    assert evidence.residual == pytest.approx(mean_squares(pseudo)[2] / (n * k))


def test_seeds_that_agree_to_the_last_bit_are_one_adapter() -> None:
    generator = np.random.default_rng(5)
    adapter, base = samples(generator.normal(0.3, 1, 80)), samples(generator.normal(0, 1, 80))
    found = weighed([adapter] * 3, base, 2000).difference(higher_is_better=True)
    alone = ask.difference(adapter, base, higher_is_better=True, resamples=2000, seed=1)
    assert (found.value, found.low, found.high) == pytest.approx((alone.value, alone.low, alone.high))
    assert (found.spread, found.outcome, found.seeds) == (0.0, alone.outcome, 3)


def test_a_gain_within_the_spread_between_seeds_is_one_of_these_adapters_alone() -> None:
    generator = np.random.default_rng(6)
    base = generator.normal(size=400)
    seeds = [samples(base + gain + 0.1 * generator.normal(size=400)) for gain in (0.1, 0.6, -0.2)]
    found = weighed(seeds, samples(base)).difference(higher_is_better=True)
    assert (found.outcome_of_these, found.outcome) == ("better", "undecided")
    assert found.spread == pytest.approx(np.std([0.1, 0.6, -0.2], ddof=1), abs=0.02)


def test_only_dialogues_with_a_value_in_every_seed_count() -> None:
    base: list[float | None] = [float(place % 7) for place in range(60)]
    first: list[float | None] = [1.0 + (place % 5) for place in range(60)]
    second = [None if place < 12 else value for place, value in enumerate(first)]
    found = weighed([samples(first), samples(second)], samples(base)).difference()
    assert found.n == 48
    assert found.value == pytest.approx(np.mean([1 + place % 5 - place % 7 for place in range(12, 60)]))


def test_no_difference_in_any_seed_is_called_equal() -> None:
    base = samples([float(place % 3) for place in range(60)])
    assert weighed([base, base, base], base).difference().outcome == "equal"


def test_two_seeds_are_warned_of() -> None:
    generator = np.random.default_rng(7)
    assert TWO in drawn(generator, 60, 2, (1.0, 0.1, 0.1)).difference().warnings
    assert TWO not in drawn(generator, 60, 3, (1.0, 0.1, 0.1)).difference().warnings


@pytest.mark.parametrize("effects", MIXTURES)
def test_an_interval_over_three_seeds_holds_the_truth(effects: str) -> None:
    assert simulated(50, 3, MIXTURES[effects], 200)["missed"] <= 0.07 + 3 * np.sqrt(0.05 * 0.95 / 200)


def test_dialogues_alone_miss_the_truth_where_seeds_differ() -> None:
    assert simulated(50, 3, MIXTURES["much of the seeds"], 200)["missed_by_dialogues_alone"] > 0.3
