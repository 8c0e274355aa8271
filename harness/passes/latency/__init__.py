"""The latency pass: what is timed when, the timing itself, and what it finds out besides."""

from harness.passes.latency.run import PASS

__all__ = ["PASS"]
