from __future__ import annotations

import pytest

from harness.stats.slices import length_bucket, level_of, levels


def test_levels_are_the_most_frequent_with_enough_units() -> None:
    values = ["a"] * 12 + ["b"] * 30 + ["c"] * 9 + [None] * 50 + ["d"] * 12
    assert levels(values) == ("b", "a", "d")
    assert levels(values, most=1) == ("b",)


@pytest.mark.parametrize(
    ("value", "level"), [(True, "true"), (3, "3"), (" x ", "x"), ("", None), (None, None), (["a"], None), ({}, None)]
)
def test_level_of(value: object, level: str | None) -> None:
    assert level_of(value) == level


@pytest.mark.parametrize(
    ("words", "bucket"),
    [(0, "≤ 16"), (16, "≤ 16"), (17, "17–32"), (33, "33–64"), (4096, "2049–4096"), (4097, "> 4096")],
)
def test_length_bucket(words: int, bucket: str) -> None:
    assert length_bucket(words) == bucket
