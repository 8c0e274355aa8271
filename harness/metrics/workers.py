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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO

from harness.errors import HarnessError
from harness.machine import end_with
from harness.metrics.metric_set import MetricSet, batches, needs_many
from harness.metrics.registry import Item, Scores

CHUNK = 250
WORTH_WORKERS = 2000  # items from which starting processes is worthwhile


def score(
    metrics: MetricSet, items: Sequence[Item], *, workers: int, advance: Callable[[int], None] | None = None
) -> Iterator[Scores]:
    """Yield what ``metrics.score`` returns, using ``workers`` processes if there are enough items.

    ``items`` are iterated over while scores are consumed, and a bounded number of them is held.
    """
    if workers <= 1 or len(items) < WORTH_WORKERS:
        return metrics.each(items, advance=advance)
    return metrics.with_many(score_in_workers(metrics, items, workers, advance), items)


def score_in_workers(
    metrics: MetricSet, items: Iterable[Item], workers: int, advance: Callable[[int], None] | None = None
) -> Iterator[Scores]:
    """Yield one Scores per item, in order, from ``workers`` processes; raise HarnessError if one fails."""
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()

    def ask(part: list[Item]) -> list[Scores]:
        process = idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, (metrics.names, metrics.options, part))
            answer: list[Scores] | HarnessError = pickle.load(process.stdout)
        except (OSError, EOFError, pickle.PickleError) as error:
            reason = f"A scoring process ended early ({type(error).__name__}); see its output above."
            raise HarnessError(reason) from error
        finally:
            idle.put(process)
        if isinstance(answer, HarnessError):
            raise answer
        return answer

    processes = [_start() for _ in range(workers)]
    for process in processes:
        idle.put(process)
    with ThreadPoolExecutor(workers) as threads:
        try:
            for found in _in_order(threads, ask, batches(items, CHUNK), 2 * workers):
                yield from found
                if advance:
                    advance(len(found))
        finally:
            for process in processes:
                _stop(process)


def _in_order(
    threads: ThreadPoolExecutor,
    ask: Callable[[list[Item]], list[Scores]],
    parts: Iterable[list[Item]],
    ahead: int,
) -> Iterator[list[Scores]]:
    """Yield the answers in order, asking at most ``ahead`` of the one that is waited for."""
    asked: deque[Future[list[Scores]]] = deque()
    for part in parts:
        asked.append(threads.submit(ask, part))
        if len(asked) > ahead:
            yield asked.popleft().result()
    while asked:
        yield asked.popleft().result()


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
