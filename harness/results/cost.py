"""What replies cost, from the measured tokens per second and the price of an hour of the device.

1,000 replies take 1,000 · tokens a reply / tokens a second. The interval is that of the tokens per second: the mean
length of the run's own replies is taken as it is, so it leaves out that replies to other dialogues differ in length.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.store.schema import ReplyRow, RunManifest, Summary

RATE = "latency.tokens_per_s"
REPLIES = 1_000
SECONDS_AN_HOUR = 3_600.0


@dataclass(frozen=True)
class Price:
    """The price of an hour of the device that the run was measured on."""

    an_hour: float
    currency: str = "USD"


@dataclass(frozen=True)
class Cost:
    """The cost of 1,000 replies of a variant under one condition, in the price's currency.

    ``low`` and ``high`` are the ends of the 95 % interval, None where the rate has none.
    """

    variant: str
    conditions: Mapping[str, object]
    tokens_per_s: float
    reply_tokens: float
    value: float
    low: float | None
    high: float | None


def stated_price(manifest: RunManifest) -> Price | None:
    """Return the price in the run's config, or None if it has none."""
    amount, currency = manifest.config.get("price_per_gpu_hour"), manifest.config.get("currency")
    if not isinstance(amount, int | float) or isinstance(amount, bool) or amount <= 0:
        return None
    return Price(float(amount), currency if isinstance(currency, str) else "USD")


def mean_reply_tokens(replies: Mapping[str, Mapping[str, ReplyRow]]) -> dict[str, float]:
    """Return the mean tokens of each variant's replies, for the variants whose replies were counted."""
    counts = {
        variant: [row.reply_tokens for row in rows.values() if row.reply_tokens is not None]
        for variant, rows in replies.items()
    }
    return {variant: sum(found) / len(found) for variant, found in counts.items() if sum(found)}


def costs(summary: Summary, reply_tokens: Mapping[str, float], price: Price) -> tuple[Cost, ...]:
    """Return the cost of 1,000 replies for each variant and condition whose tokens per second were measured.

    ``reply_tokens``: the mean length of each variant's replies. Replies of their natural length are no condition of
    their own here: the price follows from the rate at a fixed length, which is the same for every variant.
    """
    found = []
    for name, metric in summary.metrics.items():
        if name.partition("[")[0] != RATE or metric.conditions.get("workload", "fixed") != "fixed":
            continue
        for variant, row in metric.variants.items():
            length = reply_tokens.get(variant)
            if length is None or row.value is None or row.value <= 0:
                continue
            each = REPLIES * length * price.an_hour / SECONDS_AN_HOUR
            low = each / row.high if row.high else None
            high = each / row.low if row.low is not None and row.low > 0 else None
            ends = (low, high) if low is not None and high is not None else (None, None)
            found.append(Cost(variant, metric.conditions, row.value, length, each / row.value, *ends))
    return tuple(found)
