"""How often the gate is wrong, by simulation through the same statistics and the same judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.gating.evidence import Evidence, Interval
from harness.gating.judge import judge
from harness.gating.policy import Policy
from harness.stats.bootstrap import Resamples
from harness.stats.paired import PairedEvidence, weigh_difference
from harness.stats.samples import from_values

Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int], Array]

DISTRIBUTIONS: dict[str, Draw] = {
    "normal": lambda generator, n: generator.normal(0, 1, n),
    "Laplace": lambda generator, n: generator.laplace(0, 1 / np.sqrt(2), n),
    "exponential": lambda generator, n: generator.exponential(1, n) - 1,
    "lognormal": lambda generator, n: (generator.lognormal(0, 1, n) - np.exp(0.5)) / np.sqrt((np.e - 1) * np.e),
}
"""Differences with mean 0 and standard deviation 1."""


class Simulation:
    """Judges drawn differences; all simulations of one size share their resamples, as the metrics of a run do."""

    def __init__(self, n: int, *, resamples: int = 1000, seed: int = 0) -> None:
        self.n = n
        self.generator = np.random.default_rng(seed)
        self.ids = [f"d{number:05d}" for number in range(n)]
        self.shared = Resamples(n, resamples=resamples, seed=seed)

    def weigh(self, differences: Array) -> PairedEvidence:
        """Return what paired values with these differences say."""
        base = self.generator.normal(0, 1, self.n)
        one = from_values(self.ids, [float(value) for value in base + differences])
        two = from_values(self.ids, [float(value) for value in base])
        both = self.shared.sums(np.hstack([one.statistics, two.statistics]))
        return weigh_difference(one, two, lambda: (both[:, :2], both[:, 2:]))

    def verdicts(self, rule: dict[str, Any], *checks: Array) -> list[str]:
        """Return the verdicts of one gate over several checks, each on its own differences."""
        said = [
            {"id": f"c{number}", "metric": "m", **rule, "against": {"variant": "base"}} for number in range(len(checks))
        ]
        policy = Policy.model_validate({"version": 1, "defaults": {"min_samples": 1}, "checks": said})
        found = {f"c{number}": evidence(self.weigh(one), len(checks)) for number, one in enumerate(checks)}
        return [result.verdict for result in judge(policy, found)]


def evidence(weighed: PairedEvidence, tested: int) -> Evidence:
    """Return what the gate gathers from paired values, Holm's intervals included."""
    plain = weighed.difference(0.95, True)
    steps = [1 - 0.05 / divided for divided in range(2, tested + 1)]
    more = [(weighed.difference(confidence, True), confidence) for confidence in steps]
    return Evidence(
        "m",
        "adapter",
        "base",
        higher_is_better=True,
        scale="difference",
        value=plain.value,
        interval=Interval(plain.low, plain.high, 0.95),
        n=plain.n,
        mde=plain.mde,
        steps=tuple(Interval(one.low, one.high, confidence) for one, confidence in more),
    )


def rate(
    verdict: str,
    rule: dict[str, Any],
    draw: Draw,
    n: int,
    *,
    shift: float = 0.0,
    times: int = 1000,
    checks: int = 1,
    seed: int = 0,
) -> float:
    """Return how often a gate over ``checks`` independent checks has at least one with this verdict."""
    simulation = Simulation(n, seed=seed)
    hits = 0
    for _ in range(times):
        drawn = [draw(simulation.generator, n) + shift for _ in range(checks)]
        hits += verdict in simulation.verdicts(rule, *drawn)
    return hits / times
