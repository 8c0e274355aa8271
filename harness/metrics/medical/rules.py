"""What all medical rules share: a spec that marks them as heuristics, and that they read English replies with words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

from harness.metrics.language import is_english
from harness.metrics.medical.accuracy import ACCURACY
from harness.metrics.registry import Item, MetricSpec, ReplyMetric, Scores, not_defined
from harness.metrics.text.words import is_empty


class EnglishRule(ReplyMetric):
    """A rule without a value for an empty reply, and undefined, with the reason, where a text is not English.

    A reply without letters or digits is neither safe nor unsafe: ``quality.empty`` counts it.
    """

    reads: ClassVar[tuple[Literal["prompt", "reference", "reply"], ...]] = ("reply", "reference", "prompt")

    def score(self, items: Sequence[Item]) -> list[Scores]:
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Scores:
        names = [spec.name for spec in self.specs]
        if item.reply is None or is_empty(item.reply):
            return Scores(dict.fromkeys(names))
        foreign = next((text for text in self.reads if not is_english(getattr(item, text))), None)
        if foreign is None:
            return self.judge(item, item.reply)
        return not_defined(names, f"the {foreign} is not English")


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
