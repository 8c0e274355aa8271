"""Where values are in a picture, and the numbers at its axes."""

from __future__ import annotations

import pytest

from reports.figures.axes import Axis, around


def labels(axis: Axis, most: int = 5) -> list[str]:
    return [text for _, text in axis.ticks(most)]


def test_a_value_is_in_proportion_between_the_ends() -> None:
    assert Axis(10.0, 20.0, 100.0, 300.0)(15.0) == 200.0
    assert Axis(10.0, 20.0, 300.0, 100.0)(12.0) == 260.0
    assert Axis(1.0, 10_000.0, 0.0, 400.0, logarithmic=True)(100.0) == pytest.approx(200.0)


@pytest.mark.parametrize(
    ("low", "high", "shown"),
    [
        (0.0, 100.0, ["0", "20", "40", "60", "80", "100"]),
        (-0.02, 0.11, ["0.00", "0.05", "0.10"]),
        (-31.0, 12.0, ["−30", "−20", "−10", "0", "10"]),
        (0.93, 1.06, ["0.95", "1.00", "1.05"]),
        (0.0, 12.4, ["0.0", "2.5", "5.0", "7.5", "10.0"]),
        (1.1e-6, 5.2e-6, ["2×10⁻⁶", "3×10⁻⁶", "4×10⁻⁶", "5×10⁻⁶"]),
    ],
)
def test_ticks_are_round_numbers_with_the_same_decimals(low: float, high: float, shown: list[str]) -> None:
    assert labels(Axis(low, high, 0.0, 1.0)) == shown


def test_logarithmic_ticks_are_powers_and_their_multiples() -> None:
    assert labels(Axis(0.9, 11.0, 0.0, 1.0, logarithmic=True)) == ["1", "2", "5", "10"]
    assert labels(Axis(60.0, 2100.0, 0.0, 1.0, logarithmic=True)) == ["100", "200", "500", "1,000", "2,000"]
    assert labels(Axis(20.0, 2100.0, 0.0, 1.0, logarithmic=True)) == ["30", "100", "300", "1,000"]
    assert labels(Axis(1e-7, 2.0, 0.0, 1.0, logarithmic=True)) == ["1×10⁻⁷", "1×10⁻⁵", "0.001", "0.1"]


def test_a_narrow_logarithmic_axis_has_ticks_too() -> None:
    assert labels(Axis(1.6e-4, 3.4e-4, 0.0, 1.0, logarithmic=True)) == ["2×10⁻⁴", "2.5×10⁻⁴", "3×10⁻⁴"]


def test_an_axis_shows_all_values_with_room_beside_them() -> None:
    axis = around([3.0, float("nan"), 7.0, float("inf")], 0.0, 100.0, room=0.25)
    assert (axis.low, axis.high) == (2.0, 8.0)
    assert around([3.0, 7.0], 0.0, 1.0, floor=0.0).low == 0.0


@pytest.mark.parametrize("values", [[], [0.0], [5.0, 5.0], [-1e-300]])
@pytest.mark.parametrize("logarithmic", [False, True])
def test_nothing_to_spread_is_an_axis_all_the_same(values: list[float], logarithmic: bool) -> None:
    axis = around(values, 0.0, 100.0, logarithmic=logarithmic)
    assert axis.low < axis.high
    assert axis.ticks()
