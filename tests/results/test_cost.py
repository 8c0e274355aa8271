"""The cost of replies: prices by hand, and an interval that is the rate's, turned over."""

from __future__ import annotations

from typing import Any

import pytest

from harness.results.cost import Price, costs, mean_reply_tokens, stated_price
from harness.store.schema import EstimateRow, MetricSummary, ReplyRow, RunManifest, Summary


def measured(low: float | None = 40.0, high: float | None = 60.0, **conditions: Any) -> Summary:
    row = EstimateRow(value=50.0, low=low, high=high, n=16)
    metric = MetricSummary(
        unit="tokens/s",
        higher_is_better=True,
        signature="s",
        conditions={"engine": "compiled", "batch": 1, "workload": "fixed", **conditions},
        variants={"adapter": row},
    )
    return Summary(metrics={"latency.tokens_per_s": metric})


def test_the_cost_is_the_price_of_the_seconds_that_a_thousand_replies_take() -> None:
    (cost,) = costs(measured(), {"adapter": 100.0}, Price(3.6))
    assert cost.value == pytest.approx(2.0)  # 1,000 replies of 100 tokens at 50 tokens/s: 2,000 s at 0.001 a second
    assert (cost.low, cost.high) == (pytest.approx(100 / 60), pytest.approx(2.5))
    assert cost.conditions["batch"] == 1


@pytest.mark.parametrize("ends", [(None, None), (None, 60.0), (-3.0, 60.0), (0.0, 60.0)])
def test_a_rate_without_a_usable_interval_gives_none(ends: tuple[float | None, float | None]) -> None:
    (cost,) = costs(measured(*ends), {"adapter": 100.0}, Price(3.6))
    assert (cost.low, cost.high) == (None, None)


def test_replies_that_were_not_counted_have_no_cost() -> None:
    assert costs(measured(), {"base": 100.0}, Price(3.6)) == ()
    assert costs(measured(workload="natural"), {"adapter": 100.0}, Price(3.6)) == ()


def test_the_length_of_a_reply_is_the_mean_over_the_replies_that_were_counted() -> None:
    rows = {str(k): ReplyRow(id=str(k), reply_tokens=tokens) for k, tokens in enumerate((10, 30, None))}
    assert mean_reply_tokens({"adapter": rows, "empty": {}}) == {"adapter": 20.0}


@pytest.mark.parametrize(
    ("config", "price"),
    [
        ({}, None),
        ({"price_per_gpu_hour": None, "currency": "USD"}, None),
        ({"price_per_gpu_hour": True}, None),
        ({"price_per_gpu_hour": 2, "currency": "EUR"}, Price(2.0, "EUR")),
        ({"price_per_gpu_hour": 2.5}, Price(2.5, "USD")),
    ],
)
def test_the_price_is_the_config_s(config: dict[str, Any], price: Price | None) -> None:
    assert stated_price(RunManifest(state="complete", config=config, config_digest="0")) == price
