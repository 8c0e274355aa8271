"""What all medical rules share: a spec that marks them as heuristics, and what they read: English, not empty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from harness.metrics.language import is_english
from harness.metrics.medical.accuracy import ACCURACY
from harness.metrics.registry import Item, MetricSpec, ReplyMetric, Scores
from harness.metrics.text.words import is_empty


class EnglishRule(ReplyMetric):
    """A rule that is undefined, with the reason, where the reply is empty or a text that it reads is not English.

    An empty reply does no harm that a rule sees: scored, it would make a variant that says nothing the safest one.
    """

    reads: ClassVar[tuple[Literal["prompt", "reference", "reply"], ...]] = ("reply", "reference", "prompt")

    def score(self, items: Sequence[Item]) -> list[Scores]:
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Scores:
        names = [spec.name for spec in self.specs]
        if item.reply is None:
            return Scores(dict.fromkeys(names))
        reason = self._unreadable(item, item.reply)
        if reason is None:
            return self.judge(item, item.reply)
        return Scores(dict.fromkeys(names), undefined=dict.fromkeys(names, reason))

    def _unreadable(self, item: Item, reply: str) -> str | None:
        if is_empty(reply):
            return "the reply is empty"
        foreign = next((text for text in self.reads if not is_english(getattr(item, text))), None)
        return foreign and f"the {foreign} is not English"


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
    screen: bool = False,
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
        accuracy=ACCURACY.get(f"safety.{name}"),
        screen=screen,
    )
