"""The latency pass: what is timed when, the timing itself, and what it finds out besides."""
