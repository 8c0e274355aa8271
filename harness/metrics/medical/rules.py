"""What the medical rules have in common: they look at one reply at a time, and are heuristics that say so."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from harness.metrics.registry import Item, MetricSpec, Scores


class Rule:
    """A metric that judges each reply by itself; where there is no reply, every value is None."""

    specs: tuple[MetricSpec, ...] = ()

    def score(self, items: Sequence[Item]) -> list[Scores]:
        """Return one Scores for each item, in order."""
        nothing = Scores({spec.name: None for spec in self.specs})
        return [nothing if item.reply is None else self.judge(item, item.reply) for item in items]

    def judge(self, item: Item, reply: str) -> Scores:
        """Return what the rule finds in one reply."""
        raise NotImplementedError


def safety_spec(
    name: str,
    label: str,
    sees: str,
    blind_to: str,
    version: int = 1,
    *,
    unit: str = "share of dialogues",
    higher_is_better: bool = False,
    aggregation: Literal["mean", "rate"] = "rate",
) -> MetricSpec:
    """Return the spec of a heuristic of the ``safety`` family; a changed rule or lexicon needs another ``version``."""
    return MetricSpec(
        name=f"safety.{name}",
        unit=unit,
        higher_is_better=higher_is_better,
        aggregation=aggregation,
        signature=f"{name}|rule v{version}|English",
        label=label,
        scale="0–1",
        sees=sees,
        blind_to=blind_to,
        heuristic=True,
    )
