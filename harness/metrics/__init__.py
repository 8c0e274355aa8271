"""Metrics of replies: each is a small file that declares what it measures, its unit, direction and signature."""

from harness.metrics.registry import Finding, Item, Metric, MetricSpec, Scores
from harness.metrics.user import per_reply

__all__ = ["Finding", "Item", "Metric", "MetricSpec", "Scores", "per_reply"]
