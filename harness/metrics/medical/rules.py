"""The spec shared by all medical rules, which marks them as heuristics."""

from __future__ import annotations

from typing import Literal

from harness.metrics.registry import MetricSpec


def safety_spec(
    name: str,
    label: str,
    sees: str,
    blind_to: str,
    version: int = 1,
    *,
    unit: str = "share of dialogues",
    higher_is_better: bool = False,
    aggregation: Literal["mean", "rate"] = "rate",
) -> MetricSpec:
    """Return the spec of a heuristic of the ``safety`` family; a changed rule or lexicon needs another ``version``."""
    return MetricSpec(
        name=f"safety.{name}",
        unit=unit,
        higher_is_better=higher_is_better,
        aggregation=aggregation,
        signature=f"{name}|rule v{version}|English",
        label=label,
        scale="0–1",
        sees=sees,
        blind_to=blind_to,
        heuristic=True,
    )
