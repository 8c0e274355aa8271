"""Scores of the variants whose replies are complete, made in other processes while the next variant replies.

Nothing depends on it: a score counts only if the reply is still the same when everything is computed, and what is
missing, for whatever reason, is scored then.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from harness.dialogues.reply_text import Reasoning
from harness.errors import HarnessError
from harness.metrics.metric_set import MetricSet
from harness.metrics.workers import Known, Workers
from harness.results.replies_scored import items_of
from harness.store.folder import RunFolder

CHUNK = 32  # items; few, because all processes share the last variant's


class ScoredAhead:
    """Scores variants of a run folder in ``count`` processes, one variant after another; with 0, none.

    ``metrics`` is called in another thread, once the first variant is complete.
    """

    def __init__(self, folder: RunFolder, metrics: Callable[[], MetricSet], reasoning: Reasoning, count: int) -> None:
        self._folder = folder
        self._metrics = metrics
        self._reasoning = reasoning
        self._count = count
        self._thread = ThreadPoolExecutor(1)  # workers end with the thread that started them
        self._made: list[Future[Known]] = []
        self._workers: Workers | None = None
        self._closed = False

    def __enter__(self) -> ScoredAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._workers is not None:
            self._workers.kill()
        self._thread.shutdown(cancel_futures=True)
        if self._workers is not None:
            self._workers.__exit__()

    def begin(self, variant: str) -> None:
        """Score a variant whose replies are complete, soon."""
        if self._count > 0:
            self._made.append(self._thread.submit(self._score, variant))

    def known(self) -> Known:
        """Wait for what was begun, and return what was found."""
        done = [made.result() for made in self._made if made.exception() is None]
        return {place: found for one in done for place, found in one.items()}

    def _score(self, variant: str) -> Known:
        if self._workers is None:
            self._workers = Workers(self._metrics(), self._count)
        if self._closed:
            raise HarnessError("The run ended.")
        items = items_of(self._folder, variant, self._reasoning)
        scores = self._workers.score(items, chunk=CHUNK)
        return {(one.system, one.id, one.reference): (one, found) for one, found in zip(items, scores, strict=True)}
