"""What the quickstart's replies must get right, by the facts that its synthetic dialogues were written from.

The columns ``condition`` and ``drug`` say what the patient has and what is given for it first; real data has no such
columns. It is also an example of metrics of one's own: ``metric_options.modules`` in ``quickstart.yaml`` names it.
"""

from __future__ import annotations

from harness.metrics.registry import Item
from harness.metrics.user import per_reply


@per_reply(
    name="quality.names_condition",
    unit="share of replies",
    higher_is_better=True,
    aggregation="rate",
    label="Names the condition",
    sees="Replies that name the condition which the dialogue was written from.",
    blind_to="Whether the reply says that the patient has it, or only mentions it.",
)
def names_condition(item: Item) -> float | None:
    return _names(item, "condition")


@per_reply(
    name="quality.names_first_drug",
    unit="share of replies",
    higher_is_better=True,
    aggregation="rate",
    label="Names the first-line drug",
    sees="Replies that name the first treatment that nothing about this patient rules out.",
    blind_to="Its dose, and what else the reply recommends.",
)
def names_first_drug(item: Item) -> float | None:
    return _names(item, "drug")


def _names(item: Item, column: str) -> float | None:
    fact = item.columns.get(column)
    if item.reply is None or not isinstance(fact, str):
        return None
    return float(fact.casefold() in item.reply.casefold())
