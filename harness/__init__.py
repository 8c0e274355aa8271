"""Evaluation of fine-tuned medical-dialogue models.

``run``, ``gate`` and ``load_run`` are the Python equivalents of the commands. Heavy imports wait for the first call.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.gating.verdict import GateResult
    from harness.results.frames import RunFrames

__all__ = ["gate", "load_run", "run"]


def run(config: RunConfig | dict[str, Any] | str | Path = "quickstart", out: str | Path | None = None) -> RunFrames:
    """Run a config (a shipped name, a YAML path, a dict or a RunConfig) and return the run's frames.

    Raises ``harness.errors.InputError`` for unusable input and ``HarnessError`` when a measurement fails.
    """
    from harness.jobs import run as jobs
    from harness.results.frames import load_frames

    return load_frames(jobs.run(config, out).root)


def load_run(path: str | Path) -> RunFrames:
    """Return a run folder's replies, scores, latencies and summary as pandas frames."""
    from harness.results.frames import load_frames

    return load_frames(path)


def gate(
    path: str | Path, thresholds: str | Path, *, baseline: str | Path | None = None, candidate: str | None = None
) -> GateResult:
    """Judge a run by a thresholds file and return the result, whose ``exit_code`` is the command's exit code."""
    from harness.gating.gate import gate as judge_run

    return judge_run(path, thresholds, baseline=baseline, candidate=candidate)
