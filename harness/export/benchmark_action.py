"""``github-action-benchmark``: one JSON file for its tool ``customBiggerIsBetter``, one for ``customSmallerIsBetter``.

Format: https://github.com/benchmark-action/github-action-benchmark#examples, "Custom".
"""

from __future__ import annotations

from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun
from harness.files import write_json


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Write the metrics in two files, by what is better; those of which only a range is good are left out."""
    place = wanted.place(run, "github-action-benchmark")
    lines = []
    for bigger, name in ((True, "bigger_is_better.json"), (False, "smaller_is_better.json")):
        entries = [
            {
                "name": f"{variant}: {figure.metric}" + (f" on {figure.set}" if figure.set else ""),
                "unit": figure.unit,
                "value": figure.value,
                **(
                    {}
                    if figure.low is None or figure.high is None
                    else {"range": f"{figure.low:.4g}–{figure.high:.4g}"}
                ),
                "extra": f"n = {figure.n}\n{figure.signature}".strip(),
            }
            for variant in run.variants
            for figure in run.figures(variant)
            if figure.against is None and figure.higher_is_better is bigger
        ]
        write_json(place / name, entries)
        lines.append(f"{place / name}: {len(entries)} values")
    return lines
