"""Numbers as they are printed."""

from __future__ import annotations

import pytest

from reports.numbers import amount, is_share, near, plain, ratio, rounded, shared_decimals


@pytest.mark.parametrize(
    ("value", "digits", "signed", "shown"),
    [
        (-0.61, 2, True, "−0.61"),
        (0.12, 2, True, "+0.12"),
        (-0.0001, 2, True, "0.00"),
        (12345.6, 0, False, "12,346"),
        (0.000123, None, False, "0.000123"),
        (float("nan"), None, False, "not a number"),
        (None, None, False, "–"),
        (-4.1e-7, 6, True, "−4×10⁻⁷"),
        (0.0, 6, True, "0.000000"),
    ],
)
def test_prints_signs_thousands_and_gaps(value: float | None, digits: int | None, signed: bool, shown: str) -> None:
    assert plain(value, digits, signed=signed) == shown


def test_has_as_many_digits_as_the_interval_supports() -> None:
    assert amount(0.28712, 0.2712, 0.3034) == ("0.287", "0.271 to 0.303")
    assert amount(34.5123, 33.6, 35.4) == ("34.5", "33.6 to 35.4")
    assert amount(2.459, 2.403, 2.514) == ("2.46", "2.40 to 2.51")


def test_shares_become_percent_and_their_differences_points() -> None:
    assert amount(0.067, 0.029, 0.127, unit="share of replies") == ("6.7\u00a0%", "2.9 to 12.7")
    assert amount(-0.042, unit="rate", signed=True)[0] == "−4.2\u00a0points"
    assert is_share("share of tokens")
    assert not is_share("F1")


def test_sizes_grow_into_gibibytes() -> None:
    assert amount(512.0, unit="MiB")[0] == "512\u00a0MiB"
    assert amount(15.8 * 1024, unit="MiB")[0] == "15.8\u00a0GiB"


def test_ratios_and_rough_counts() -> None:
    assert ratio(1.618, 1.58, 1.66) == ("1.62\u00a0×", "1.58 to 1.66")
    assert [rounded(n) for n in (7, 99, 412, 6428)] == ["7", "99", "420", "6,500"]


def test_a_row_shares_the_decimals_of_its_widest_interval() -> None:
    assert shared_decimals([(0.3, 0.29, 0.31), (0.2, 0.1, 0.3)], "F1") == 2
    assert shared_decimals([(0.3, None, None)], "F1") is None


def test_an_interval_that_excludes_zero_is_not_printed_as_touching_it() -> None:
    assert amount(3.27, 0.23, 7.9, signed=True, digits=0) == ("+3", "+0.2 to +8")
    assert amount(-3.27, -7.9, -0.04, signed=True, digits=0) == ("−3", "−8 to −0.04")
    assert amount(1.2, -0.04, 2.4, signed=True, digits=0) == ("+1", "0 to +2")
    assert ratio(1.021, 1.003, 1.04) == ("1.02\u00a0×", "1.003 to 1.04")


def test_a_value_whose_interval_the_rows_decimals_would_swallow_keeps_its_own() -> None:
    assert near(0, 4.06, 3.7, 4.6, "perplexity") is None
    assert near(0, 204.0, 159.0, 290.0, "perplexity") == 0


def test_a_small_share_without_an_interval_is_not_printed_as_none() -> None:
    assert amount(0.0004, unit="share of bandwidth")[0] == "0.04\u00a0%"
    assert amount(0.0, unit="share of replies")[0] == "0.0\u00a0%"


def test_the_ends_of_a_ratios_interval_can_be_told_apart() -> None:
    assert ratio(1.0102, 1.0084, 1.0121) == ("1.010\u00a0×", "1.008 to 1.012")
    assert ratio(1.62, 1.62, 1.62) == ("1.62\u00a0×", "1.62 to 1.62")
