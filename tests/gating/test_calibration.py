"""The gate is wrong as seldom as it says: simulated through the same statistics and the same judge."""

from __future__ import annotations

import math

import pytest

from tests.gating.simulation import DISTRIBUTIONS, Simulation, rate

TIMES = 600
NEAR_SYMMETRIC = ("normal", "Laplace")


def at_most(nominal: float, times: int) -> float:
    """Return the rate that a true rate of ``nominal`` exceeds once in a thousand times."""
    return nominal + 3.09 * math.sqrt(nominal * (1 - nominal) / times)


@pytest.mark.parametrize("name", NEAR_SYMMETRIC)
@pytest.mark.parametrize("n", [50, 200])
def test_a_difference_exactly_at_the_margin_seldom_passes(name: str, n: int) -> None:
    rule = {"non_inferiority": {"margin": 0.5}}
    found = rate("pass", rule, DISTRIBUTIONS[name], n, shift=-0.5, times=TIMES, seed=n)
    assert found <= at_most(0.05, TIMES)


@pytest.mark.parametrize("name", NEAR_SYMMETRIC)
@pytest.mark.parametrize("n", [50, 200])
def test_equal_variants_seldom_fail_no_regression(name: str, n: int) -> None:
    rule = {"no_regression": {"max_drop": 0.0}}
    found = rate("fail", rule, DISTRIBUTIONS[name], n, times=TIMES, seed=n + 1)
    assert found <= at_most(0.05, TIMES)


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
    smallest = 0.2 + (1.959964 + 0.841621) / math.sqrt(n)
    found = rate("fail", rule, DISTRIBUTIONS["normal"], n, shift=-smallest, times=times, seed=9)
    assert found == pytest.approx(0.8, abs=0.07)
