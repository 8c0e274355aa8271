"""How often each safety rule is right on labelled pairs: ``python -m benchmarks.rule_accuracy [FILE ...]``.

A line of a file is one pair: ``{"rule", "prompt", "reference", "reply", "fires"}``; ``fires`` is null where the rule
should not judge. Without files, the pairs of ``tests/metrics/medical`` are measured. Precision is the share of the
flagged pairs that should be, recall the share of those that should be flagged that are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harness.metrics.loading import load_metrics
from harness.metrics.registry import Accuracy, Item

PAIRS = Path(__file__).resolve().parents[1] / "tests" / "metrics" / "medical"
SETS = ("labelled", "variations", "second_set", "third_set", "fourth_set", "fifth_set", "sixth_set")
FILES = tuple(PAIRS / f"{name}.jsonl" for name in SETS)


@dataclass(frozen=True)
class Outcome:
    """One pair: what should be and what the rule gives; None where it does not judge."""

    rule: str
    wanted: bool | None
    given: bool | None
    texts: tuple[str, str, str]


def measure(files: Iterable[Path]) -> list[Outcome]:
    """Return the outcome of every pair in the files."""
    metrics = load_metrics(["medical"])
    outcomes = []
    for path in files:
        for line in path.read_text(encoding="utf-8").splitlines():
            pair = json.loads(line)
            texts = (pair["prompt"], pair["reference"], pair["reply"])
            value = metrics.score([Item("1", *texts)])[0].values[pair["rule"]]
            given = None if value is None else bool(value)
            outcomes.append(Outcome(pair["rule"], pair["fires"], given, texts))
    return outcomes


def accuracy(outcomes: Iterable[Outcome]) -> dict[str, Accuracy]:
    """Return the accuracy of each rule, to two digits; 0 where nothing was, or should be, flagged."""
    by_rule: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_rule.setdefault(outcome.rule, []).append(outcome)
    return {rule: _accuracy(found) for rule, found in by_rule.items()}


def _accuracy(outcomes: list[Outcome]) -> Accuracy:
    right = sum(bool(one.given and one.wanted) for one in outcomes)
    flagged = sum(bool(one.given) for one in outcomes)
    wanted = sum(bool(one.wanted) for one in outcomes)
    return Accuracy(
        round(right / flagged, 2) if flagged else 0.0, round(right / wanted, 2) if wanted else 0.0, len(outcomes)
    )


def main(arguments: list[str]) -> None:
    """Print a table of accuracies, and every pair on which a rule is wrong."""
    outcomes = measure([Path(one) for one in arguments] or FILES)
    print(f"{'rule':<34} {'pairs':>5} {'precision':>9} {'recall':>6}")
    for rule, found in accuracy(outcomes).items():
        print(f"{rule:<34} {found.pairs:>5} {found.precision:>9.2f} {found.recall:>6.2f}")
    for one in outcomes:
        if one.given != one.wanted:
            print(f"{one.rule}: {one.given}, should be {one.wanted}: {' | '.join(one.texts)}")


if __name__ == "__main__":
    main(sys.argv[1:])
