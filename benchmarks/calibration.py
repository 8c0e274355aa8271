"""How often the harness's statistics err when the truth is known: simulated, and written into docs/statistics.md.

    python -m benchmarks.calibration --out benchmarks/results/calibration.json           print the tables, write them
    python -m benchmarks.calibration --out benchmarks/results/calibration.json --write   and put them into the page

Everything goes through the functions that a run uses. All seeds are fixed, so two runs give the same tables. Exits
with 1 if a rate is above its limit by more than three standard errors of the simulation.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks.calibration_draws import EQUAL, LOSSES, SINGLE, Case, single
from benchmarks.peers.machine import provenance, write_result
from harness.stats.bootstrap import Resamples
from harness.stats.intervals import weigh
from harness.stats.paired import PairedEvidence, weigh_difference
from harness.stats.proportions import clopper_pearson
from harness.stats.samples import by_cluster
from harness.stats.timing import estimate_quantile, log_ratios, weigh_ratio
from harness.stats.types import FloatArray, TimingSamples

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- calibration: begin -->", "<!-- calibration: end -->"
SIZES = (10, 20, 50, 200, 1000)
DECIDES, MARGIN, EQUIVALENT, MISSES = "decides", "passes at the margin", "equivalent at the margin", "misses the truth"
LIMITS = {DECIDES: 0.07, MARGIN: 0.025, EQUIVALENT: 0.025, MISSES: 0.07}
GATE_SAMPLES = 100  # below, the gate is inconclusive unless told otherwise, so the limits of its rules begin there


@dataclass(frozen=True)
class Rate:
    """How many of ``simulations`` data sets of ``n`` units were answered wrongly; ``limit``: how many may be."""

    what: str
    n: int
    question: str
    errors: int
    simulations: int
    limit: float | None

    @property
    def share(self) -> float:
        return self.errors / self.simulations

    @property
    def holds(self) -> bool:
        """Whether the rate lies no farther above its limit than three standard errors of the simulation."""
        if self.limit is None:
            return True
        return self.share <= self.limit + 3.0 * math.sqrt(self.limit * (1.0 - self.limit) / self.simulations)


def rate(what: str, n: int, question: str, errors: int, simulations: int) -> Rate:
    limited = question in (DECIDES, MISSES) or n >= GATE_SAMPLES
    return Rate(what, n, question, errors, simulations, LIMITS[question] if limited else None)


def compare(case: Case, n: int, simulations: int, *, resamples: int = 2000, seed: int = 1) -> tuple[Rate, ...]:
    """Simulate comparisons of two variants whose true difference is ``case.truth``.

    Without a true difference: how often one is decided, and how often non-inferiority and equivalence pass exactly at
    the margin where adding a constant puts it there (the worse direction; for equivalence, half a standard deviation).
    With a loss: how often both pass with that loss as their margin.
    """
    generator = np.random.default_rng([seed, n])
    shared = Resamples(n, resamples=resamples)
    decided = missed = 0
    passed, equivalent = [0, 0], [0, 0]
    for evidence in _weighed(case, n, simulations, shared, generator):
        made = evidence.difference(0.95)
        decided += made.outcome == "different"
        if made.low is None or made.high is None:
            continue
        low, high = made.low - case.truth, made.high - case.truth
        missed += low > 0.0 or high < 0.0
        wide = case.spread if case.truth == 0.0 else -2.0 * case.truth
        passed[0] += low >= 0.0
        passed[1] += high <= 0.0
        equivalent[0] += low >= 0.0 and high <= wide
        equivalent[1] += high <= 0.0 and low >= -wide
    if case.truth:
        return (
            rate(case.name, n, MARGIN, passed[0], simulations),
            rate(case.name, n, EQUIVALENT, equivalent[0], simulations),
            rate(case.name, n, MISSES, missed, simulations),
        )
    found = [rate(case.name, n, DECIDES, decided, simulations)]
    if case.moves and "differ" not in case.name:
        found += [rate(case.name, n, MARGIN, max(passed), simulations)]
        found += [rate(case.name, n, EQUIVALENT, max(equivalent), simulations)]
    return tuple(found)


def _weighed(
    case: Case, n: int, simulations: int, shared: Resamples, generator: np.random.Generator
) -> Iterator[PairedEvidence]:
    """Yield what each simulated pair says. A hundred at a time are resampled in one matrix product, which is faster."""
    for start in range(0, simulations, 100):
        pairs = [case.draw(generator, n) for _ in range(min(100, simulations - start))]
        statistics = [by_cluster(side) for pair in pairs for side in pair]
        sums = np.split(shared.sums(np.hstack(statistics)), len(statistics), axis=1)
        for pair, mine, theirs in zip(pairs, sums[::2], sums[1::2], strict=True):
            yield weigh_difference(*pair, partial(_both, mine, theirs))


def _both(mine: FloatArray, theirs: FloatArray) -> tuple[FloatArray, FloatArray]:
    return mine, theirs


def value(name: str, n: int, simulations: int, *, resamples: int = 2000, seed: int = 2) -> Rate:
    """Simulate the interval of one variant's mean."""
    generator, shared, truth = np.random.default_rng([seed, n]), Resamples(n, resamples=resamples), SINGLE[name][1]
    missed = 0
    for _ in range(simulations):
        drawn = single(name, generator, n)
        made = weigh(drawn, partial(shared.sums, drawn.statistics)).estimate()
        missed += made.low is not None and made.high is not None and not made.low <= truth <= made.high
    return rate(f"mean, {name}", n, MISSES, missed, simulations)


def rates(truth: float, n: int, simulations: int, *, seed: int = 3) -> Rate:
    """Simulate Clopper–Pearson's interval of a rate."""
    counts = np.random.default_rng([seed, n]).binomial(n, truth, simulations)
    ends = {count: clopper_pearson(int(count), n) for count in np.unique(counts)}
    missed = sum(not ends[count][0] <= truth <= ends[count][1] for count in counts)
    return rate(f"rate of {100 * truth:g} %", n, MISSES, missed, simulations)


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
    return rate(f"p{100 * quantile:g} of timings, {values_of_one} per request", n, MISSES, missed, simulations)


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
    limit = LIMITS[DECIDES] if interleaved else None
    order = "interleaved" if interleaved else "one after another"
    return Rate(f"{name}, {order}", n, "wrong", errors, simulations, limit)


def _one_after_another(n: int, repeats: int) -> FloatArray:
    spots = np.arange(n * repeats).reshape(repeats, n)
    return np.stack([spots + n * repeats, spots], axis=2).astype(np.float64)


def _by_request(took: FloatArray) -> dict[str, dict[int, float]]:
    return {f"r{one:04}": dict(enumerate(map(float, took[:, one]))) for one in range(took.shape[1])}


def everything(simulations: int, done: Callable[[list[Rate]], None]) -> dict[str, list[Rate]]:
    """Run all simulations; ``done`` is given the rates after every row."""
    tables: dict[str, list[Rate]] = {"equal": [], "losses": [], "values": [], "drift": []}

    def add(table: str, *found: Rate) -> None:
        tables[table] += found
        done([one for rows in tables.values() for one in rows])

    for table, cases in (("equal", EQUAL), ("losses", LOSSES)):
        for case in cases:
            for n in SIZES:
                add(table, *compare(case, n, simulations))
    for name in SINGLE:
        for n in SIZES:
            add("values", value(name, n, simulations))
    for truth in (0.02, 0.3):
        for n in SIZES:
            add("values", rates(truth, n, simulations))
    tenth = max(1, simulations // 10)
    for quantile, n in ((0.5, 16), (0.95, 100), (0.99, 400)):
        add("values", quantiles(quantile, n, simulations // 2))
        add("values", quantiles(quantile, n, tenth, gaps=40))
    for n in (16, 50):
        add("drift", timings(n, tenth))
    add("drift", timings(16, tenth, slowdown=1.1), timings(16, tenth, interleaved=False))
    return tables


def pages(tables: dict[str, list[Rate]], simulations: int) -> str:
    """Return the tables as Markdown."""
    equal = [(DECIDES, "7 %"), (MARGIN, "2.5 %"), (EQUIVALENT, "2.5 %")]
    losses = [(MARGIN, "2.5 %"), (EQUIVALENT, "2.5 %"), (MISSES, "7 %")]
    parts = [
        f"Percent of {simulations:,} simulated data sets each (a tenth where gaps or drift are simulated). A dash: not "
        "asked, because adding a constant does not merely move the interval.",
        "Two variants without a true difference:\n\n" + _grid(tables["equal"], equal),
        "Losses alone, or more losses than gains, exactly as large as the margin:\n\n"
        + _grid(tables["losses"], losses),
        "One variant's interval misses the truth (5 %; limit 7 %):\n\n" + _list(tables["values"], "units or requests"),
        "Two variants timed under drift, share of wrong answers:\n\n" + _list(tables["drift"], "requests"),
    ]
    return "\n\n".join(parts)


def _grid(found: list[Rate], questions: list[tuple[str, str]]) -> str:
    """Return one row for each case, with the sizes side by side under each question."""
    sizes = " / ".join(f"{n:,}" for n in SIZES)
    lines = ["| n = " + sizes + " | " + " | ".join(f"{name} (limit {limit})" for name, limit in questions) + " |"]
    lines.append("|---" * (len(questions) + 1) + "|")
    for what in dict.fromkeys(one.what for one in found):
        cells = []
        for question, _ in questions:
            shares = [one for one in found if one.what == what and one.question == question]
            cells.append(" / ".join(f"{100 * one.share:.1f}" for one in shares) or "–")
        lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _list(found: list[Rate], unit: str) -> str:
    lines = [f"| what | {unit} | share |", "|---|---|---|"]
    return "\n".join([*lines, *(f"| {one.what} | {one.n:,} | {100 * one.share:.1f} % |" for one in found)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run all simulations, print the tables and write them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "calibration.json")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/statistics.md")
    parser.add_argument("--simulations", type=int, default=3000)
    options = parser.parse_args(arguments)
    began = time.monotonic()
    facts = {"provenance": provenance("cpu"), "simulations": options.simulations}

    def keep(found: list[Rate]) -> None:
        rows = [{**asdict(one), "share": one.share, "holds": one.holds} for one in found]
        write_result(options.out, {**facts, "seconds": round(time.monotonic() - began, 1), "rates": rows})

    tables = everything(options.simulations, keep)
    text = pages(tables, options.simulations)
    print(text)
    if options.write:
        page = ROOT / "docs" / "statistics.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        page.write_text(f"{before}{BEGIN}\n{text}\n{END}{rest.split(END)[1]}", encoding="utf-8")
    broken = [one for rows in tables.values() for one in rows if not one.holds]
    for one in broken:
        print(f"Above its limit: {one.what}, n = {one.n}, {one.question}: {one.share:.1%}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
