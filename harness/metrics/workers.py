"""Scoring in several processes: it is text processing in plain Python, which threads would not speed up.

Each worker is a fresh ``python -m harness.metrics.workers`` fed through pipes. ``multiprocessing`` is not used: forking
a process with torch's threads may hang, and ``spawn`` runs an unguarded user script a second time.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO

from harness.errors import HarnessError
from harness.machine import end_with
from harness.metrics.metric_set import MetricSet, batches, needs_many
from harness.metrics.registry import Item, Scores

CHUNK = 250
WORTH_WORKERS = 2000  # items from which starting processes is worthwhile


Known = Mapping[tuple[str, str, str], tuple[Item, Scores]]
"""Scores made before, by system, id and reference, with the item that they are of."""


def score(
    metrics: MetricSet,
    items: Sequence[Item],
    *,
    workers: int,
    advance: Callable[[int], None] | None = None,
    known: Known | None = None,
) -> Iterator[Scores]:
    """Yield what ``metrics.score`` returns, using ``workers`` processes if there are enough items.

    ``items`` are iterated over while scores are consumed, and a bounded number of them is held. Items that are
    ``known``, unchanged, are scored only by the metrics that need many at once.
    """
    before = [_recalled(item, known) for item in items] if known else []
    left = [item for item, found in zip(items, before, strict=True) if found is None] if known else items
    if advance and len(left) < len(items):
        advance(len(items) - len(left))
    if workers > 1 and len(left) >= WORTH_WORKERS:
        made = score_in_workers(metrics, left, workers, advance)
    else:
        made = metrics.where(lambda metric: not needs_many(metric)).each(left, advance=advance)
    texts = (next(made) if found is None else found for found in before) if known else made
    return metrics.with_many(texts, items)


def _recalled(item: Item, known: Known) -> Scores | None:
    of, found = known.get((item.system, item.id, item.reference), (None, None))
    return found if of == item else None


def score_in_workers(
    metrics: MetricSet, items: Iterable[Item], workers: int, advance: Callable[[int], None] | None = None
) -> Iterator[Scores]:
    """Yield one Scores per item, in order, from ``workers`` processes; raise HarnessError if one fails.

    Metrics that need many items at once are left out.
    """
    with Workers(metrics, workers) as started:
        yield from started.score(items, advance)


class Workers:
    """Processes that score items until the block ends. They end with the thread that started them."""

    def __init__(self, metrics: MetricSet, count: int) -> None:
        self._metrics = metrics
        self._processes = [_start() for _ in range(count)]
        self._idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._processes:
            self._idle.put(process)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            _stop(process)

    def kill(self) -> None:
        """End the processes at once, from any thread; whoever waits for their answers gets a HarnessError."""
        for process in self._processes:
            process.kill()

    def score(
        self, items: Iterable[Item], advance: Callable[[int], None] | None = None, *, chunk: int | None = None
    ) -> Iterator[Scores]:
        """Yield one Scores per item, in order; raise HarnessError if a process fails."""
        with ThreadPoolExecutor(len(self._processes)) as threads:
            try:
                for found in self._in_order(threads, batches(items, chunk or CHUNK)):
                    if advance:  # before they are handed out: nobody asks again after the last one
                        advance(len(found))
                    yield from found
            except BaseException:
                self.kill()  # or the block would wait for what is under way
                raise

    def _in_order(self, threads: ThreadPoolExecutor, parts: Iterable[list[Item]]) -> Iterator[list[Scores]]:
        """Yield the answers in order, asking for a few parts beyond the one that is waited for."""
        asked: deque[Future[list[Scores]]] = deque()
        for part in parts:
            asked.append(threads.submit(self._ask, part))
            if len(asked) > 2 * len(self._processes):
                yield asked.popleft().result()
        while asked:
            yield asked.popleft().result()

    def _ask(self, items: list[Item]) -> list[Scores]:
        process = self._idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, (self._metrics.names, self._metrics.options, items))
            answer: list[Scores] | HarnessError = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError) as error:
            reason = f"A scoring process ended early ({type(error).__name__}); see its output above."
            raise HarnessError(reason) from error
        finally:
            self._idle.put(process)
        if isinstance(answer, HarnessError):
            raise answer
        return answer


def _start() -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)}
    command = [sys.executable, "-m", "harness.metrics.workers", str(os.getpid())]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment)


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            try:
                pipe.close()
            except BrokenPipeError:
                continue  # unsent data has no reader any more


def _send(pipe: IO[bytes], value: object) -> None:
    pickle.dump(value, pipe, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.flush()


def main() -> None:
    """Score chunks of items until the pipe closes."""
    from harness.metrics.loading import load_metrics

    end_with(int(sys.argv[1]))
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles interrupts and stops its workers
    requests, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a metric that prints must not corrupt the answers
    metrics: MetricSet | None = None
    while True:
        try:
            names, options, items = pickle.load(requests)
        except EOFError:
            return
        try:
            metrics = metrics or load_metrics(names, options).where(lambda metric: not needs_many(metric))
            _send(answers, metrics.score(items))
        except HarnessError as error:
            _send(answers, error)


if __name__ == "__main__":
    main()
