"""The tables of docs/metrics.md, from what the metrics declare: ``python -m tests.metrics.describe`` prints them."""

from __future__ import annotations

import re

from harness.metrics.registry import MetricSpec

SEPARATOR = re.compile(r"(?<![ |])\|(?![ |])")  # in a signature; KL(p || q) and |x| have spaces
VERSION = re.compile(r":(?:\d+\.\d+[\w.]*|not installed)")
DIRECTION = {True: "higher", False: "lower", None: "in range"}
COLUMNS = ("metric", "unit", "scale", "better", "over dialogues", "signature", "sees", "cannot see")
HEAD = f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|"


def row(spec: MetricSpec) -> str:
    """Return a metric as a row of a Markdown table; library versions stand as ``VERSION``."""
    signature = SEPARATOR.sub(" · ", VERSION.sub(":VERSION", spec.signature)).replace("|", r"\|")
    cells = (
        f"`{spec.name}`",
        spec.unit or "–",
        spec.scale,
        DIRECTION[spec.higher_is_better],
        spec.aggregation,
        signature,
        spec.sees,
        spec.blind_to,
    )
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    from harness.metrics.loading import all_specs

    families: dict[str, list[MetricSpec]] = {}
    for spec in all_specs().values():
        families.setdefault(spec.family, []).append(spec)
    for family, members in families.items():
        print("\n".join([f"### {family}\n", HEAD, *map(row, members), ""]))
