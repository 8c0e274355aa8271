"""The metrics of one run, and how they score replies in this process."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.metrics.registry import Item, Metric, MetricOptions, MetricSpec, Scores

TEXT_CHUNK = 4  # items per metric in turn: what one metric has parsed of a text is still cached for the others


@dataclass(frozen=True)
class MetricSet:
    """The metrics of one run. ``notes`` are sentences on which metrics are off and how to enable them."""

    metrics: tuple[Metric, ...]
    specs: Mapping[str, MetricSpec]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    options: MetricOptions = field(default_factory=MetricOptions)

    def score(self, items: Sequence[Item], *, advance: Callable[[int], None] | None = None) -> list[Scores]:
        """Return one Scores per item, in order, with every metric's values, statistics and findings.

        ``advance`` is called with the number of items done. Items of the same dialogue should be adjacent, so that its
        reference is parsed only once. ``workers.score`` distributes many items over processes.
        """
        text = [metric for metric in self.metrics if not needs_many(metric)]
        done: list[Scores] = []
        for start in range(0, len(items), TEXT_CHUNK):
            part = items[start : start + TEXT_CHUNK]
            done += [join(found) for found in _score_part(text, part)]
            if advance:
                advance(len(part))
        for metric in filter(needs_many, self.metrics):
            for start in range(0, len(items), at_once(metric)):
                found = metric.score(items[start : start + at_once(metric)])
                for place, scores in enumerate(found, start):
                    done[place] = join([done[place], scores])
        return [self._selected(scores) for scores in done]

    def where(self, wanted: Callable[[Metric], bool]) -> MetricSet:
        """Return the set with only those of its metrics for which ``wanted`` is true."""
        return replace(self, metrics=tuple(filter(wanted, self.metrics)))

    def _selected(self, scores: Scores) -> Scores:
        return Scores(
            {name: value for name, value in scores.values.items() if name in self.specs},
            {name: value for name, value in scores.statistics.items() if name in self.specs},
            tuple(finding for finding in scores.findings if finding.metric in self.specs),
            {name: reason for name, reason in scores.undefined.items() if name in self.specs},
        )


def at_once(metric: Metric) -> int:
    """Return how many items a metric is given at a time."""
    return int(getattr(metric, "at_once", TEXT_CHUNK))


def needs_many(metric: Metric) -> bool:
    """Return whether a metric needs many replies at once, in a single process."""
    return at_once(metric) > TEXT_CHUNK


def _score_part(metrics: Sequence[Metric], part: Sequence[Item]) -> list[list[Scores]]:
    """Return each metric's scores of each item."""
    columns = [metric.score(part) for metric in metrics]
    return [[column[place] for column in columns] for place in range(len(part))]


def join(parts: Sequence[Scores]) -> Scores:
    """Return one Scores that combines those of several metrics for the same reply."""
    return Scores(
        {name: value for part in parts for name, value in part.values.items()},
        {name: value for part in parts for name, value in part.statistics.items()},
        tuple(finding for part in parts for finding in part.findings),
        {name: reason for part in parts for name, reason in part.undefined.items()},
    )
