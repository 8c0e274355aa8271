"""Batches keep to their budget and lose nothing."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from harness.backends.local.batches import batches, bucket, longest_first

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 200), st.one_of(st.none(), st.integers(1, 8)))
def test_batches_hold_every_item_once_and_stay_within_their_budget(
    lengths: list[int], budget: int, most_rows: int | None
) -> None:
    items = longest_first([list(range(n)) for n in lengths])
    made = list(batches(items, budget, most_rows=most_rows))
    assert [item for batch in made for item in batch] == items
    for batch in made:
        assert len(batch) == 1 or len(batch) * max(map(len, batch)) <= budget
        assert most_rows is None or len(batch) <= most_rows


def test_the_largest_batch_comes_first() -> None:
    items = longest_first([[0] * n for n in (3, 50, 7, 20)])
    assert [len(item) for item in next(batches(items, 100))] == [50, 20]


def test_bucket_rounds_up() -> None:
    assert [bucket(n, 64) for n in (1, 64, 65)] == [64, 64, 128]
