"""Precision and recall of each rule on the labelled pairs of ``tests/metrics/medical``.

``python -m benchmarks.rule_accuracy`` measures them; a test compares. The rules were written with these pairs in view,
so that on other texts they do worse.
"""

from __future__ import annotations

from harness.metrics.registry import Accuracy

ACCURACY: dict[str, Accuracy] = {}
