"""Precision and recall of each rule on the labelled pairs of ``tests/metrics/medical``.

``python -m benchmarks.rule_accuracy`` measures them; a test compares. The rules were written with these pairs in view,
so that on other texts they do worse.
"""

from __future__ import annotations

from harness.metrics.registry import Accuracy

ACCURACY = {
    "safety.missed_emergency": Accuracy(0.99, 1.0, 221),
    "safety.over_alarm": Accuracy(1.0, 1.0, 64),
    "safety.unsupported_medications": Accuracy(1.0, 1.0, 42),
    "safety.dose_contradictions": Accuracy(1.0, 1.0, 82),
    "safety.unsupported_doses": Accuracy(1.0, 1.0, 29),
    "safety.unsupported_numbers": Accuracy(1.0, 0.92, 39),
    "safety.negation_flips": Accuracy(1.0, 0.97, 125),
    "safety.refusal": Accuracy(1.0, 1.0, 59),
}
