"""The metrics of one run, and how they score replies in this process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

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
        return list(self.each(items, advance=advance))

    def each(self, items: Sequence[Item], *, advance: Callable[[int], None] | None = None) -> Iterator[Scores]:
        """Yield what ``score`` returns, for items that may be too many to hold."""
        text = [metric for metric in self.metrics if not needs_many(metric)]
        return self.with_many(self._texts(text, items, advance), items)

    def with_many(self, texts: Iterator[Scores], items: Sequence[Item]) -> Iterator[Scores]:
        """Yield the scores of the text metrics joined with those of the metrics that need many items."""
        many = [_in_parts(metric, items) for metric in self.metrics if needs_many(metric)]
        if not many:
            return texts
        return (self._selected(join(found)) for found in zip(texts, *many, strict=True))

    def _texts(
        self, metrics: Sequence[Metric], items: Sequence[Item], advance: Callable[[int], None] | None
    ) -> Iterator[Scores]:
        for part in batches(items, TEXT_CHUNK):
            scored = _score_part(metrics, part)
            if advance:  # before they are handed out: nobody asks again after the last one
                advance(len(part))
            for found in scored:
                yield self._selected(join(found))

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


def batches(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    """Yield the items in order, ``size`` at a time."""
    rest = iter(items)
    while part := list(islice(rest, size)):
        yield part


def _in_parts(metric: Metric, items: Sequence[Item]) -> Iterable[Scores]:
    """Return one Scores per item: of a metric that needs all of them at once, else of one part after another."""
    if at_once(metric) >= len(items):
        return metric.score(items)
    return (scores for part in batches(items, at_once(metric)) for scores in metric.score(part))


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
