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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import IO

from harness.errors import HarnessError
from harness.machine import end_with
from harness.metrics.metric_set import MetricSet, join, needs_many
from harness.metrics.registry import Item, Scores

CHUNK = 250
WORTH_WORKERS = 2000  # items from which starting processes is worthwhile


def score(
    metrics: MetricSet, items: Sequence[Item], *, workers: int, advance: Callable[[int], None] | None = None
) -> list[Scores]:
    """Return what ``metrics.score`` returns, using ``workers`` processes if there are enough items."""
    if workers <= 1 or len(items) < WORTH_WORKERS:
        return metrics.score(items, advance=advance)
    scores = score_in_workers(metrics, items, workers, advance)
    rest = metrics.where(needs_many)
    if not rest.metrics:
        return scores
    return [join(both) for both in zip(scores, rest.score(items), strict=True)]


def score_in_workers(
    metrics: MetricSet, items: Sequence[Item], workers: int, advance: Callable[[int], None] | None = None
) -> list[Scores]:
    """Return one Scores per item, in order, from ``workers`` processes; raise HarnessError if one fails."""
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    scores: list[Scores] = []

    def ask(start: int) -> list[Scores]:
        process = idle.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, (metrics.names, metrics.options, items[start : start + CHUNK]))
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
            for found in threads.map(ask, range(0, len(items), CHUNK)):
                scores += found
                if advance:
                    advance(len(found))
        finally:
            for process in processes:
                _stop(process)
    return scores


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
