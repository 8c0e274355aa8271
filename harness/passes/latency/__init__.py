"""The latency pass: its plan, the timing itself, and the facts it collects."""

from harness.passes.latency.run import PASS

__all__ = ["PASS"]
