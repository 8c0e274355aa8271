"""What 1,000 replies cost, as the page shows it: a row for each variant, a column for each batch size."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.cost import Cost, Price, costs, mean_reply_tokens, stated_price
from reports.numbers import amount, plain
from reports.view import RunView


@dataclass(frozen=True)
class CostRow:
    """One variant. ``cells`` are pairs of cost and interval, empty where nothing was measured."""

    variant: str
    length: str
    cells: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class CostTable:
    """``conditions`` head the columns of the cells, e.g. ``batch 4, eager``."""

    price: str
    currency: str
    conditions: tuple[str, ...]
    rows: tuple[CostRow, ...]


def cost_table(view: RunView, price: Price | None = None) -> CostTable | None:
    """Return the table, or None without a price or a measured rate. ``price`` replaces the one in the run's config."""
    price = price or stated_price(view.manifest)
    if price is None:
        return None
    found = costs(view.summary, mean_reply_tokens(view.replies), price)
    if not found:
        return None
    conditions = tuple(dict.fromkeys(_condition(cost) for cost in found))
    by_place = {(cost.variant, _condition(cost)): cost for cost in found}
    rows = tuple(
        CostRow(
            variant,
            plain(next(cost.reply_tokens for cost in found if cost.variant == variant), 0),
            tuple(_cell(by_place.get((variant, condition))) for condition in conditions),
        )
        for variant in view.variants
        if any(cost.variant == variant for cost in found)
    )
    return CostTable(f"{plain(price.an_hour, 2)} {price.currency}", price.currency, conditions, rows)


def _condition(cost: Cost) -> str:
    """Return the conditions in words: ``batch 4, eager``."""
    facts = [f"{key} {value}" for key, value in cost.conditions.items() if key not in ("engine", "workload")]
    engine = cost.conditions.get("engine")
    return ", ".join([*facts, *([str(engine)] if engine else [])])


def _cell(cost: Cost | None) -> tuple[str, str]:
    return ("", "") if cost is None else amount(cost.value, cost.low, cost.high)
