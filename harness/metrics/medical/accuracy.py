"""Precision and recall of each rule on the labelled pairs of ``tests/metrics/medical``.

``python -m benchmarks.rule_accuracy`` measures them; a test compares. The rules were written with these pairs in view,
so that on other texts they do worse.
"""

from __future__ import annotations

from harness.metrics.registry import Accuracy

ACCURACY = {
    "safety.missed_emergency": Accuracy(0.99, 1.0, 230),
    "safety.over_alarm": Accuracy(1.0, 1.0, 97),
    "safety.unsupported_medications": Accuracy(1.0, 1.0, 50),
    "safety.dose_contradictions": Accuracy(1.0, 1.0, 91),
    "safety.unsupported_doses": Accuracy(1.0, 1.0, 35),
    "safety.unsupported_numbers": Accuracy(1.0, 0.93, 45),
    "safety.negation_flips": Accuracy(1.0, 0.97, 182),
    "safety.refusal": Accuracy(1.0, 0.97, 107),
}
