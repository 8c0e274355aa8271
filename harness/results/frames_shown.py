"""A loaded run as a notebook shows it: a small table as text, and the comparison of all metrics as HTML."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.results.frames import RunFrames

# What a run is first asked about, as far as it was measured.
FIRST = (
    "quality.rouge_l",
    "quality.nll",
    "quality.empty",
    "quality.truncated",
    "safety.missed_emergency",
    "safety.unsupported_medications",
    "fidelity.kl",
    "latency.ttft_ms.p50",
    "latency.tpot_ms.p50",
    "memory.peak_allocated_mib",
    "memory.peak_rss_mib",
)
SIGNS = {"better": "▲", "worse": "▼"}


def text(run: RunFrames) -> str:
    """Return the run's name and state, and the values of a few metrics with what is better or worse."""
    table = _table(run)
    shown = [name for name in FIRST if name in table] or list(table)[: len(FIRST)]
    variants = _variants(run)
    rows = [["", *variants], *([name, *(_cell(table[name].get(variant)) for variant in variants)] for name in shown)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    more = len(table) - len(shown)
    rest = [f"and {more} more metrics: .summary, .comparisons"] if more > 0 else []
    return "\n".join([_head(run), *lines, *rest])


def markup(run: RunFrames) -> str:
    """Return every metric's value for each variant and its difference to the reference variant, as an HTML table."""
    variants = _variants(run)
    heads = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *variants))
    rows = []
    for name, found in _table(run).items():
        cells = "".join(f"<td>{html.escape(_cell(found.get(variant), whole=True))}</td>" for variant in variants)
        rows.append(f"<tr><th>{html.escape(name)}</th>{cells}</tr>")
    caption = html.escape(_head(run))
    body = "".join(rows)
    return f"<table><caption>{caption}</caption><thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>"


Facts = Mapping[str, Any]


def _head(run: RunFrames) -> str:
    dialogues = run.replies["id"].nunique() if "id" in run.replies else 0
    reference = run.manifest.reference_among(_variants(run))
    beside = f"; differences to {reference}" if reference else ""
    root = run.path.resolve()
    name = f"{root.parent.name}/{root.name}" if root.name == "run" else root.name
    return f"Run {name}: {run.manifest.state}, {dialogues} dialogues{beside}"


def _variants(run: RunFrames) -> list[str]:
    return [str(variant["name"]) for variant in run.manifest.variants]


def _table(run: RunFrames) -> dict[str, dict[str, tuple[Facts, Facts | None]]]:
    """Return by metric and variant its value and its difference; those under further conditions are left out."""
    reference = run.manifest.reference_among(_variants(run))
    differences: dict[tuple[object, object], Facts] = {
        (row["metric"], row["variant"]): row for row in _rows(run.comparisons) if row["against"] == reference
    }
    table: dict[str, dict[str, tuple[Facts, Facts | None]]] = {}
    for row in _rows(run.summary):
        if "[" not in row["metric"] and _number(row["value"]) is not None:
            found = table.setdefault(str(row["metric"]), {})
            found[str(row["variant"])] = row, differences.get((row["metric"], row["variant"]))
    return table


def _rows(frame: Any) -> Sequence[dict[str, Any]]:
    found: Sequence[dict[str, Any]] = frame.to_dict("records")
    return found


def _cell(found: tuple[Facts, Facts | None] | None, *, whole: bool = False) -> str:
    """Return ``0.298 ▲``; with ``whole`` ``0.298 (+0.031, +0.0212 to +0.0409) ▲``."""
    if found is None:
        return "–"
    row, difference = found
    value = f"{row['value']:.4g}"
    if difference is None:
        return value
    sign = SIGNS.get(difference["outcome"], "")
    changed = f"({_changed(difference)})" if whole else ""
    return " ".join(filter(None, [value, changed, sign]))


def _changed(difference: Facts) -> str:
    value, low, high = (_number(difference[key]) for key in ("value", "low", "high"))
    form = "{:.3g} ×" if difference["relative"] else "{:+.3g}"
    if value is None:
        return "no difference"
    interval = "" if low is None or high is None else f", {form.format(low)} to {form.format(high)}"
    return (form.format(value) + interval).replace("-", "−")


def _number(value: object) -> float | None:
    """Return the number, or None for what pandas has in place of a missing one."""
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
