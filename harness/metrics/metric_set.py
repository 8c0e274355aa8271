"""The metrics of one run put together, and how they score replies in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.metrics.registry import Item, Metric, MetricOptions, MetricSpec, Scores

FEW = 4  # items that all metrics see before the next: what one has read of a text, the others find remembered
MANY = 512  # items at once for neural encoders, which sort them by length


@dataclass(frozen=True)
class MetricSet:
    """The metrics of one run. ``notes`` says in sentences which metrics are off, and what would turn them on."""

    metrics: tuple[Metric, ...]
    specs: Mapping[str, MetricSpec]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    options: MetricOptions = field(default_factory=MetricOptions)

    def score(self, items: Sequence[Item], *, advance: Callable[[int], None] | None = None) -> list[Scores]:
        """Return one Scores for each item, in order: every metric's values, statistics and findings together.

        ``advance`` is told how many items are done. Items of the same dialogue should follow each other: then its
        reference is read only once. ``workers.score`` shares the work of many items among processes.
        """
        device = [metric for metric in self.metrics if needs_device(metric)]
        text = [metric for metric in self.metrics if not needs_device(metric)]
        done: list[Scores] = []
        for start in range(0, len(items), FEW):
            part = items[start : start + FEW]
            done += [join(found) for found in _score_part(text, part)]
            if advance:
                advance(len(part))
        for start in range(0, len(items) if device else 0, MANY):
            part = items[start : start + MANY]
            for place, found in enumerate(_score_part(device, part), start):
                done[place] = join([done[place], *found])
        return [self._selected(scores) for scores in done]

    def without_device(self) -> MetricSet:
        """Return the set without metrics that drive a neural encoder."""
        return replace(self, metrics=tuple(metric for metric in self.metrics if not needs_device(metric)))

    def _selected(self, scores: Scores) -> Scores:
        return Scores(
            {name: value for name, value in scores.values.items() if name in self.specs},
            {name: value for name, value in scores.statistics.items() if name in self.specs},
            tuple(finding for finding in scores.findings if finding.metric in self.specs),
        )


def needs_device(metric: Metric) -> bool:
    """Return whether a metric drives a neural encoder: it wants many replies at once, and no second process."""
    return bool(getattr(metric, "needs_device", False))


def _score_part(metrics: Sequence[Metric], part: Sequence[Item]) -> list[list[Scores]]:
    """Return, for each item, what each metric found."""
    columns = [metric.score(part) for metric in metrics]
    return [[column[place] for column in columns] for place in range(len(part))]


def join(parts: Sequence[Scores]) -> Scores:
    """Return one Scores with all that several metrics found for the same reply."""
    return Scores(
        {name: value for part in parts for name, value in part.values.items()},
        {name: value for part in parts for name, value in part.statistics.items()},
        tuple(finding for part in parts for finding in part.findings),
    )
