"""``harness score`` and ``harness report`` over up to a million dialogues and three systems: time, memory and growth.

The replies are synthetic: 60 to 150 words of sentences about findings and medications, from a seed. Each size is
written, scored and reported on by the commands themselves. What is measured is the tree of processes of a command: wall
time, CPU time, and the largest resident memory of all of them together. A size that is in ``--out`` already is not
repeated, so that the same command continues one that was stopped.

python -m benchmarks.million --replies 1000 10000 100000 1000000 --by-metric --out benchmarks/results/million.json
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from benchmarks.peers.machine import write_result
from harness.metrics.loading import all_specs, load_metrics
from harness.metrics.medical.lexicons import read_table
from harness.metrics.metric_set import TEXT_CHUNK, needs_many
from harness.metrics.registry import Item
from harness.metrics.text.collapse import Collapse
from harness.results.summarize import summarize
from harness.stats.jackknife import LARGE
from harness.store.folder import RunFolder

SYSTEMS = ("base", "adapter", "merged")
FEWEST, MOST = 60, 150  # words of a reply
FRAMES = (
    "Most likely this is {finding}, which is {a} and {b} in {c} of this age.",
    "Take {drug} {dose} mg {times} for {n} days, with {a} and {b}.",
    "You have no {finding} and no {finding}, which is {a} {b}.",
    "If you notice {finding} or {finding}, call 911 or go to the nearest {a} {b}.",
    "Your doctor may {a} {b} tests to find the {c} of the {finding}.",
    "With {finding} you should not have {drug}, so {a} before you take {dose} mg of it.",
    "The {a} may include {drug}, {b} {c} or surgery.",
    "Some people with {finding} {a} {b} for {n} to {m} {c}.",
    "Avoid {a}, {b} and {c} in the evening, and come back after {n} weeks if the {finding} has not improved.",
    "It is {a} to have {b} check-ups, and to tell all of your {c} about the {finding}.",
    "Studies of {drug} show that {a} {b} {c} after {n} weeks.",
    "\nFor mild {finding}, {a} and a {b} {c} for {n} minutes are often enough.",
)
SYLLABLES = tuple(a + b for a in "bdfglmnprst" for b in "aeiou")[::3]
TIMES = ("once a day", "twice a day", "three times a day", "every eight hours")
POLL_SECONDS = 0.2
PROFILED = 500  # dialogues over which each metric is timed by itself
COLLAPSE_TEXTS = (10_000, 100_000)


class Texts:
    """Sentences of a vocabulary in which, as in any language, few words are frequent and most are rare."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._findings = [row[0] for row in read_table("findings.tsv", 3)]
        self._drugs = [row[0] for row in read_table("drugs.tsv", 3)]
        self._words = [a + b + c for a in SYLLABLES for b in SYLLABLES for c in SYLLABLES]
        self._random.shuffle(self._words)

    def sentence(self) -> str:
        """Return one sentence."""
        pick = self._random.random
        words, findings, drugs = self._words, self._findings, self._drugs
        frame = FRAMES[int(pick() * len(FRAMES))]
        text = frame.replace("{finding}", findings[int(pick() * len(findings))], 1)
        return text.format(
            a=words[int(len(words) * pick() ** 3)],
            b=words[int(len(words) * pick() ** 3)],
            c=words[int(len(words) * pick() ** 3)],
            finding=findings[int(pick() * len(findings))],
            drug=drugs[int(pick() * len(drugs))],
            dose=int(pick() * 20 + 1) * 50,
            n=int(pick() * 9) + 2,
            m=int(pick() * 20) + 11,
            times=TIMES[int(pick() * len(TIMES))],
        )

    def text(self, start: tuple[str, ...] = (), shared: float = 0.0) -> list[str]:
        """Return sentences of 60 to 150 words together; a share of them is taken from ``start``."""
        wanted = self._random.randint(FEWEST, MOST)
        found: list[str] = []
        count = 0
        own = iter(start)
        while count < wanted:
            taken = next(own, None)
            sentence = taken if taken is not None and self._random.random() < shared else self.sentence()
            found.append(sentence)
            count += sentence.count(" ") + 1
        return found


def write_replies(folder: Path, dialogues: int, seed: int = 0) -> dict[str, Path]:
    """Write each system's file of replies and return them by its name."""
    texts = Texts(seed)
    files = {name: folder / f"{name}.jsonl" for name in SYSTEMS}
    with ExitStack() as stack:
        writers = {name: stack.enter_context(path.open("w", encoding="ascii")) for name, path in files.items()}
        for number in range(dialogues):
            prompt = f"{' '.join(texts.sentence() for _ in range(4))} What should I do?"
            reference = texts.text()
            for shared, (_name, writer) in zip((0.2, 0.4, 0.4), writers.items(), strict=True):
                line = {
                    "id": f"dialogue-{number:07d}",
                    "prompt": prompt,
                    "reference": " ".join(reference),
                    "reply": " ".join(texts.text(tuple(reference), shared)),
                }
                writer.write(json.dumps(line) + "\n")
    return files


def measured(command: list[str], log: Path) -> dict[str, float]:
    """Run a command and return wall seconds, CPU seconds and the largest resident memory of its processes in MiB.

    Raises CalledProcessError if it fails; its output is in ``log``.
    """
    before = os.times()
    begun = time.perf_counter()
    peak = 0
    with log.open("w") as output, subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT) as process:
        root = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _resident(root))
            time.sleep(POLL_SECONDS)
    took = time.perf_counter() - begun
    after = os.times()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, log.read_text()[-2000:])
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"seconds": round(took, 2), "cpu_seconds": round(cpu, 2), "peak_rss_mib": round(peak / 2**20, 1)}


def _resident(root: psutil.Process) -> int:
    """Return the resident memory of a process and its descendants in bytes; those that ended count nothing."""

    def each() -> Iterator[int]:
        for process in (root, *root.children(recursive=True)):
            try:
                yield process.memory_info().rss
            except psutil.NoSuchProcess:
                continue

    try:
        return sum(each())
    except psutil.NoSuchProcess:
        return 0


def measure(dialogues: int, work: Path) -> dict[str, Any]:
    """Return the size, what ``score`` and ``report`` took, and how large the files are."""
    folder = work / str(dialogues)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    begun = time.perf_counter()
    files = write_replies(folder, dialogues)
    _say(f"{dialogues:,} dialogues written in {time.perf_counter() - begun:.0f} s")
    run = folder / "run"
    given = [part for name, path in files.items() for part in ("--replies", f"{name}={path}")]
    harness = [sys.executable, "-m", "harness"]
    score = measured([*harness, "score", *given, "--out", str(run)], folder / "score.log")
    _say(f"{dialogues:,} dialogues scored: {score}")
    report = measured([*harness, "report", str(run)], folder / "report.log")
    _say(f"{dialogues:,} dialogues reported on: {report}")
    sizes = {
        "inputs_mib": round(sum(path.stat().st_size for path in files.values()) / 2**20, 1),
        "run_folder_mib": round(sum(one.stat().st_size for one in run.rglob("*") if one.is_file()) / 2**20, 1),
        "page_mib": round((run / "report.html").stat().st_size / 2**20, 2),
    }
    found = {"dialogues": dialogues, "replies": dialogues * len(SYSTEMS), "score": score, "report": report, **sizes}
    return {**found, "jackknife_against_bca": agreement(RunFolder(run))} if dialogues == LARGE else found


def by_metric(work: Path) -> dict[str, Any]:
    """Return the CPU milliseconds a reply of each metric in one process, and of ``collapse`` by its number of texts."""
    metrics = load_metrics(None)
    together = [metric for metric in metrics.metrics if not needs_many(metric)]
    items = _items(work / "by-metric", PROFILED, SYSTEMS)
    took = dict.fromkeys((type(metric).__name__ for metric in together), 0.0)
    for start in range(0, len(items), TEXT_CHUNK):
        for metric in together:
            begun = time.process_time()
            metric.score(items[start : start + TEXT_CHUNK])
            took[type(metric).__name__] += time.process_time() - begun
    _say(f"each metric timed over {len(items):,} replies")
    collapse = {}
    for texts in COLLAPSE_TEXTS:
        items = _items(work / "collapse", texts, SYSTEMS[:1])
        begun = time.process_time()
        Collapse().score(items)
        collapse[texts] = round(1000 * (time.process_time() - begun) / texts, 4)
        _say(f"near copies among {texts:,} texts: {collapse[texts]} ms a text")
    each = {name: round(1000 * seconds / (PROFILED * len(SYSTEMS)), 3) for name, seconds in took.items()}
    return {"ms_a_reply": each, "collapse_ms_a_text": collapse, "machine": _machine()}


def _items(folder: Path, dialogues: int, systems: Sequence[str]) -> list[Item]:
    """Return what is scored of freshly written replies, those of one dialogue adjacent."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        files = [stack.enter_context(path.open()) for path in write_replies(folder, dialogues).values()]
        return [
            Item(**json.loads(line), system=system)
            for lines in zip(*files, strict=True)
            for system, line in zip(systems, lines, strict=False)
        ]


def agreement(run: RunFolder) -> dict[str, Any]:
    """Return how far the jackknife's intervals are from those of the bootstrap in ``summary.json``.

    The distance of two ends is a share of the bootstrap's half-width. Rates have exact intervals and are left out.
    """
    kept = run.read_summary()
    with ExitStack() as stack:
        for module in ("intervals", "paired"):
            stack.enter_context(mock.patch(f"harness.stats.{module}.LARGE", 0))
        other = summarize(run, all_specs())
    pairs = [
        (old, metric.variants[name])
        for metric_name, metric in other.metrics.items()
        for name, old in kept.metrics[metric_name].variants.items()
    ] + list(zip(kept.comparisons, other.comparisons, strict=True))
    apart: list[float] = []
    outcomes = 0
    for old, new in pairs:
        if "bootstrap" in old.method and None not in (old.low, old.high, new.low, new.high):
            half = (old.high - old.low) / 2
            apart += [abs(new.low - old.low) / half, abs(new.high - old.high) / half]
            outcomes += getattr(old, "outcome", None) != getattr(new, "outcome", None)
    return {
        "intervals": len(apart) // 2,
        "largest_share_of_half_width": round(max(apart), 4),
        "median_share_of_half_width": round(statistics.median(apart), 4),
        "other_outcomes": outcomes,
    }


def growth(sizes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return, from each size to the next, what a further reply costs both commands together."""
    found = []
    for one, other in pairwise(sizes):
        replies = other["replies"] - one["replies"]
        cpu, wall = (
            sum(other[command][key] - one[command][key] for command in ("score", "report"))
            for key in ("cpu_seconds", "seconds")
        )
        memory = max((other[command]["peak_rss_mib"] - one[command]["peak_rss_mib"]) for command in ("score", "report"))
        found.append(
            {
                "from": one["dialogues"],
                "to": other["dialogues"],
                "cpu_ms_per_reply": round(1000 * cpu / replies, 3),
                "wall_ms_per_reply": round(1000 * wall / replies, 3),
                "bytes_per_reply": round(memory * 2**20 / replies),
            }
        )
    return found


def main() -> None:
    """Measure each size that the result does not have yet, smallest first, and write the result after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--replies", type=int, nargs="*", default=[], metavar="N", help="dialogues, three replies each")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--by-metric", action="store_true", help="also time each metric by itself, in one process (some minutes)"
    )
    parser.add_argument(
        "--work", type=Path, help="folder for the replies and run folders, which are kept; default: temporary"
    )
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    sizes = {one["dialogues"]: one for one in result.get("sizes", ())}
    kept = {key: result[key] for key in ("by_metric",) if key in result}
    with ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for dialogues in sorted(set(arguments.replies) - set(sizes)):
            sizes[dialogues] = {**measure(dialogues, work), "machine": _machine()}
            ordered = [sizes[one] for one in sorted(sizes)]
            write_result(arguments.out, {"systems": list(SYSTEMS), "sizes": ordered, "growth": growth(ordered), **kept})
            if arguments.work is None:
                shutil.rmtree(work / str(dialogues))
        if arguments.by_metric:
            written = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
            write_result(arguments.out, {**written, "by_metric": by_metric(work)})
    for step in growth([sizes[one] for one in sorted(sizes)]):
        _say(str(step))


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)),
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def _say(text: str) -> None:
    print(f"{datetime.datetime.now():%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    main()
