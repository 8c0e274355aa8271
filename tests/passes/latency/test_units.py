"""Interleaving and the choice of prompts, without a clock."""

from __future__ import annotations

import numpy as np

from harness.passes.latency.units import batches, choose_prompts, mirrored_orders, prompt_lengths


def test_every_second_repeat_mirrors_the_one_before() -> None:
    orders = mirrored_orders(["a", "b", "c"], 4, np.random.default_rng(0))
    assert orders[1] == orders[0][::-1]
    assert orders[3] == orders[2][::-1]
    assert all(sorted(order) == ["a", "b", "c"] for order in orders)


def test_linear_drift_cancels_over_two_repeats() -> None:
    orders = mirrored_orders(["a", "b", "c"], 2, np.random.default_rng(1))
    position = {name: sum(order.index(name) + 3 * index for index, order in enumerate(orders)) for name in "abc"}
    assert len(set(position.values())) == 1


def test_first_place_is_shared_out_over_prompts() -> None:
    rng = np.random.default_rng(2)
    first = [mirrored_orders(["a", "b"], 1, rng)[0][0] for _ in range(400)]
    assert 150 < first.count("a") < 250


def test_prompts_that_do_not_fit_are_not_chosen() -> None:
    assert choose_prompts([10, 999, 20, 30], 10, 100) == [0, 2, 3]


def test_chosen_prompts_span_the_lengths() -> None:
    lengths = list(range(100))[::-1]
    chosen = choose_prompts(lengths, 3, 1000)
    assert sorted(lengths[index] for index in chosen) == [0, 50, 99]


def test_prompt_lengths_stay_below_the_context() -> None:
    assert prompt_lengths(1024, None) == [32, 128, 512]
    assert prompt_lengths(256, [64, 300]) == [64]


def test_batches_start_over_where_prompts_run_out() -> None:
    assert batches([1, 2, 3], 2, 3) == [[1, 2], [3, 1], [2, 3]]
    assert batches([], 2, 3) == []
