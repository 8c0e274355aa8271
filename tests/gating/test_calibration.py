"""The gate is wrong as seldom as it says: simulated through the same statistics and the same judge."""

from __future__ import annotations

import math

import pytest
import scipy.stats

from harness.gating.judge import judge
from harness.gating.policy import Policy
from harness.stats.samples import from_values
from tests.gating.simulation import DISTRIBUTIONS, Simulation, evidence, rate
from tests.stats.ask import weighed

TIMES = 600
NEAR_SYMMETRIC = ("normal", "Laplace")


def at_most(nominal: float, times: int) -> float:
    """Return the rate that a true rate of ``nominal`` exceeds once in a thousand times."""
    return nominal + 3.09 * math.sqrt(nominal * (1 - nominal) / times)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [100, 200])
def test_a_difference_exactly_at_the_margin_seldom_passes(name: str, n: int) -> None:
    rule = {"non_inferiority": {"margin": 0.5}}
    found = rate("pass", rule, DISTRIBUTIONS[name], n, shift=-0.5, times=TIMES, seed=n)
    assert found <= at_most(0.025, TIMES)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("n", [100, 200])
def test_equal_variants_seldom_fail_no_regression(name: str, n: int) -> None:
    rule = {"no_regression": {"max_drop": 0.0}}
    found = rate("fail", rule, DISTRIBUTIONS[name], n, times=TIMES, seed=n + 1)
    assert found <= at_most(0.025, TIMES)


@pytest.mark.parametrize(("lost", "n", "margin"), [(0, 100, 0.02), (0, 120, 0.03), (1, 200, 0.02), (3, 200, 0.04)])
def test_a_rate_of_which_few_units_differ_passes_no_smaller_margin_than_they_show(
    lost: int, n: int, margin: float
) -> None:
    ids = [f"d{index}" for index in range(n)]
    one = from_values(ids, [0.0] * lost + [1.0] * (n - lost), kind="rate")
    two = from_values(ids, [1.0] * n, kind="rate")
    for allowed, verdict in ((margin, "inconclusive"), (2 * margin + 0.02, "pass")):
        said = {"id": "c", "metric": "m", "non_inferiority": {"margin": allowed}, "against": {"variant": "base"}}
        policy = Policy.model_validate({"version": 1, "checks": [said]})
        assert judge(policy, {"c": evidence(weighed(one, two), 1)})[0].verdict == verdict


def test_five_checks_together_seldom_fail_equal_variants() -> None:
    rule = {"no_regression": {"max_drop": 0.0}}
    times = 200
    found = rate("fail", rule, DISTRIBUTIONS["normal"], 100, times=times, checks=5, seed=7)
    assert found <= at_most(0.05, times)


@pytest.mark.parametrize("name", NEAR_SYMMETRIC)
def test_a_loss_of_twice_the_detectable_effect_is_failed(name: str) -> None:
    n, times = 100, 300
    mde = Simulation(n).weigh(DISTRIBUTIONS[name](Simulation(n, seed=3).generator, n)).difference().mde
    assert mde is not None
    rule = {"no_regression": {"max_drop": 0.0}}
    found = rate("fail", rule, DISTRIBUTIONS[name], n, shift=-2 * mde, times=times, seed=5)
    assert found >= 0.95


def test_a_loss_of_the_smallest_size_shown_is_found_four_times_in_five() -> None:
    n, times = 100, 400
    rule = {"no_regression": {"max_drop": 0.2}}
    smallest = 0.2 + (scipy.stats.t.ppf(0.975, n / 5) + 0.841621) / math.sqrt(n)
    found = rate("fail", rule, DISTRIBUTIONS["normal"], n, shift=-smallest, times=times, seed=9)
    assert found == pytest.approx(0.8, abs=0.07)
