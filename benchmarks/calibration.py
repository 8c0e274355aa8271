"""How often the harness's statistics err when the truth is known: simulated, and written into docs/statistics.md.

    python -m benchmarks.calibration            print the tables
    python -m benchmarks.calibration --write    and put them into docs/statistics.md and benchmarks/results/

Each rate is the share of simulated data sets in which the interval missed the truth (nominal: 5 %), or in which a
one-sided decision at half of that was wrong (nominal: 2.5 %). All seeds are fixed, so two runs give the same tables.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from harness.stats.bootstrap import Resamples, bca
from harness.stats.power import minimum_detectable_effect
from harness.stats.proportions import PairedRates, clopper_pearson, mcnemar_exact
from harness.stats.samples import ratio_of_sums
from harness.stats.timing import estimate_quantile, log_ratios, weigh_ratio
from harness.stats.types import FloatArray, TimingSamples

Draw = Callable[[np.random.Generator, tuple[int, int]], FloatArray]
ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"

# Differences with a true mean of zero; the skewed ones are what a few very bad replies do to a metric.
DIFFERENCES: dict[str, Draw] = {
    "normal": lambda rng, shape: rng.normal(size=shape),
    "heavy tails (t, 4 d.f.)": lambda rng, shape: rng.standard_t(4, size=shape),
    "exponential": lambda rng, shape: rng.exponential(size=shape) - 1.0,
    "lognormal": lambda rng, shape: rng.lognormal(size=shape) - math.exp(0.5),
}


@dataclass(frozen=True)
class Rate:
    """Errors in ``simulations`` repetitions. ``what`` names the row, ``n`` the units of each."""

    what: str
    n: int
    errors: int
    simulations: int
    nominal: float

    @property
    def share(self) -> float:
        return self.errors / self.simulations

    def within_binomial_error(self, sigmas: float = 3.0) -> bool:
        """Return whether the rate lies no farther above nominal than chance explains."""
        return self.share <= self.nominal + sigmas * math.sqrt(self.nominal * (1.0 - self.nominal) / self.simulations)


@dataclass(frozen=True)
class Decisions:
    """What was decided of simulated differences: how often zero was excluded, and three one-sided decisions.

    ``passed_at_margin``: non-inferiority passed though the truth is the margin. ``failed_without_loss``: a loss proven
    though there is none. ``missed_loss``: a loss of twice the minimum detectable effect was not proven.
    """

    excluded: Rate
    passed_at_margin: Rate
    failed_without_loss: Rate
    missed_loss: Rate


def mean_differences(name: str, n: int, simulations: int, *, resamples: int = 2000, seed: int = 1) -> Decisions:
    """Simulate the BCa interval of paired differences whose true mean is zero."""
    data = DIFFERENCES[name](np.random.default_rng([seed, n]), (n, simulations))
    sums = Resamples(n, resamples=resamples).sums(data)
    excluded = passed = failed = missed = 0
    for column in range(simulations):
        statistics = np.column_stack([data[:, column], np.ones(n)])
        made = bca(statistics, ratio_of_sums, np.column_stack([sums[:, column], np.full(resamples, float(n))]))
        assert made is not None
        low, high = made.interval(0.95)
        loss = 2.0 * minimum_detectable_effect(made.standard_error)
        excluded += low > 0.0 or high < 0.0
        # Only the distance between truth and limit matters, so the data are moved by moving the limit.
        passed += low > 0.0
        failed += high < 0.0
        missed += not high - loss < 0.0
    return Decisions(
        Rate(name, n, excluded, simulations, 0.05),
        Rate(name, n, passed, simulations, 0.025),
        Rate(name, n, failed, simulations, 0.025),
        Rate(name, n, missed, simulations, 0.05),
    )


def paired_rates(discordant: float, n: int, simulations: int, *, seed: int = 2) -> tuple[Rate, Rate]:
    """Simulate two equal rates that differ in a share of the units: Tango's interval and McNemar's p-value."""
    rng = np.random.default_rng([seed, n, round(1000 * discordant)])
    changed = rng.binomial(n, discordant, simulations)
    gained = rng.binomial(changed, 0.5)
    interval = exact = 0
    for one, both in zip(gained, changed - gained, strict=True):
        low, high = PairedRates(0, int(one), int(both), n).interval(0.95)
        interval += low > 0.0 or high < 0.0
        exact += mcnemar_exact(int(one), int(both)) <= 0.05
    name = f"{discordant:.0%} of the units change"
    return Rate(name, n, interval, simulations, 0.05), Rate(name, n, exact, simulations, 0.05)


def rates(truth: float, n: int, simulations: int, *, seed: int = 3) -> Rate:
    """Simulate Clopper–Pearson's interval of a rate."""
    counts = np.random.default_rng([seed, n]).binomial(n, truth, simulations)
    ends = {count: clopper_pearson(int(count), n) for count in np.unique(counts)}
    missed = sum(not ends[count][0] <= truth <= ends[count][1] for count in counts)
    return Rate(f"rate of {truth:.0%}", n, missed, simulations, 0.05)


@cache
def _pool(spread: float, noise: float) -> FloatArray:
    rng = np.random.default_rng(0)
    values: FloatArray = np.exp(rng.normal(0, spread, 2_000_000) + noise * rng.normal(size=2_000_000))
    return values


def quantiles(quantile: float, n: int, simulations: int, *, gaps: int = 1, seed: int = 4) -> Rate:
    """Simulate a quantile's bounds: one value per request, or many gaps of requests of different speed."""
    rng = np.random.default_rng([seed, n, gaps])
    spread, noise = 0.15, 0.1 if gaps > 1 else 0.0
    truth = float(np.quantile(_pool(spread, noise), quantile))
    missed = 0
    for _ in range(simulations):
        values = np.exp(rng.normal(0, spread, (n, 1)) + noise * rng.normal(size=(n, gaps)))
        samples = TimingSamples(tuple(map(str, range(n))), tuple(values), quantile)
        made = estimate_quantile(samples, resamples=1000)
        missed += (made.low is not None and made.low > truth) or (made.high is not None and made.high < truth)
    values_of_one = f"{gaps} gaps" if gaps > 1 else "one value"
    return Rate(f"p{100 * quantile:g}, {values_of_one} per request", n, missed, simulations, 0.05)


def timings(n: int, simulations: int, *, slowdown: float = 1.0, interleaved: bool = True, seed: int = 5) -> Rate:
    """Simulate two equally fast variants (or one slower) on a machine that slows down by a third on the way.

    An error is a difference found where there is none, or not found where there is one.
    """
    rng = np.random.default_rng([seed, n])
    repeats, errors = 3, 0
    for _ in range(simulations):
        speed = rng.lognormal(0.0, 0.3, n)
        spots = np.arange(2 * n * repeats).reshape(repeats, n, 2) if interleaved else _one_after_another(n, repeats)
        # Within a repeat the two variants follow one another, turned round in every other one (ABBA).
        spots = np.where((np.arange(repeats) % 2 == 1)[:, None, None] & interleaved, spots[:, :, ::-1], spots)
        drift = 1.0 + spots / (2 * n * repeats) / 3.0
        noise = np.exp(rng.standard_t(3, (repeats, n, 2)) * 0.02)
        took = speed[None, :, None] * drift * noise * np.array([slowdown, 1.0])
        mine, theirs = (_by_request(took[:, :, side]) for side in (0, 1))
        made = weigh_ratio(log_ratios(mine, theirs), resamples=1000).difference()
        errors += (made.outcome == "undecided") == (slowdown != 1.0)
    name = f"slower by {slowdown - 1.0:.0%}" if slowdown != 1.0 else "equally fast"
    return Rate(f"{name}, {'interleaved' if interleaved else 'one after another'}", n, errors, simulations, 0.05)


def _one_after_another(n: int, repeats: int) -> FloatArray:
    spots = np.arange(n * repeats).reshape(repeats, n)
    return np.stack([spots + n * repeats, spots], axis=2).astype(np.float64)


def _by_request(took: FloatArray) -> dict[str, dict[int, float]]:
    return {f"r{one:04}": dict(enumerate(map(float, took[:, one]))) for one in range(took.shape[1])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all simulations, print the tables and, where asked, write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--simulations", type=int, default=10_000)
    options = parser.parse_args(arguments)
    text, facts = report(options.simulations)
    print(text)
    if options.write:
        page = ROOT / "docs" / "statistics.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
        results = ROOT / "benchmarks" / "results" / "calibration.json"
        results.parent.mkdir(parents=True, exist_ok=True)
        results.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def report(simulations: int) -> tuple[str, list[dict[str, object]]]:
    """Return the tables as Markdown, and every rate in them."""
    found: list[Rate] = []
    lines = [
        f"Shares in {simulations:,} simulated data sets each.",
        "",
        "| paired differences, true mean 0 | n | interval excludes 0 (5 %) | passes at the margin (2.5 %) "
        "| loss proven without one (2.5 %) | loss of twice the MDE missed (5 %) |",
        "|---|---|---|---|---|---|",
    ]
    for name in DIFFERENCES:
        for n in (20, 50, 200):
            made = mean_differences(name, n, simulations)
            cells = (made.excluded, made.passed_at_margin, made.failed_without_loss, made.missed_loss)
            found += cells
            lines.append(f"| {name} | {n} | " + " | ".join(f"{one.share:.1%}" for one in cells) + " |")
    lines += [
        "",
        "| two equal rates | n | Tango excludes 0 (5 %) | McNemar rejects (≤ 5 %) |",
        "|---|---|---|---|",
    ]
    for discordant in (0.02, 0.1, 0.3):
        for n in (20, 50, 200):
            pair = paired_rates(discordant, n, simulations)
            found += pair
            lines.append(f"| {pair[0].what} | {n} | " + " | ".join(f"{one.share:.1%}" for one in pair) + " |")
    lines += ["", "| interval misses the truth (5 %) | n | share |", "|---|---|---|"]
    fewer = max(1, simulations // 10)
    singles = [rates(truth, n, simulations) for truth in (0.02, 0.3) for n in (20, 200)]
    singles += [quantiles(0.5, 16, simulations), quantiles(0.95, 100, simulations), quantiles(0.99, 400, fewer)]
    singles += [quantiles(0.5, n, fewer, gaps=40) for n in (16, 50)]
    singles += [quantiles(0.99, 400, fewer, gaps=40)]
    found += singles
    lines += [f"| {one.what} | {one.n} | {one.share:.1%} |" for one in singles]
    lines += ["", "| two variants timed under drift | requests | share of wrong answers |", "|---|---|---|"]
    drifting = [timings(n, fewer) for n in (16, 50)]
    drifting += [timings(16, fewer, slowdown=1.1), timings(16, fewer, interleaved=False)]
    found += drifting
    lines += [f"| {one.what} | {one.n} | {one.share:.1%} |" for one in drifting]
    return "\n".join(lines), [asdict(one) for one in found]


if __name__ == "__main__":
    main()
