"""Where the gate's numbers come from: the same analysis of the run folder that ``summary.json`` is made by."""

from __future__ import annotations

from collections.abc import Mapping

from harness.gating.sides import Statistics
from harness.metrics.registry import MetricSpec
from harness.store import RunFolder, RunManifest


def known_metrics(manifest: RunManifest) -> Mapping[str, MetricSpec]:
    """Return every metric that is registered in this project."""
    from harness.metrics.loading import all_specs

    return all_specs()


def statistics_of(folder: RunFolder, manifest: RunManifest) -> Statistics:
    """Return the statistics of a run folder, with the run's own resamples and seed."""
    raise NotImplementedError
