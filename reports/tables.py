"""The run's tables as CSV files, for people's own scripts and spreadsheets. They hold no dialogue or reply text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from harness.files import write_text_atomically
from harness.store.folder import RunFolder
from reports.escape import shorten, visible
from reports.view import RunView, read_view

Rows = list[Sequence[object]]


def write_csv(folder: RunFolder, out_dir: Path) -> tuple[Path, ...]:
    """Write the run's tables as CSV files under ``out_dir`` and return their paths.

    Text that a spreadsheet would take for a formula is written with an apostrophe in front.
    """
    view = read_view(folder)
    tables = {
        "values.csv": _values(view),
        "comparisons.csv": _comparisons(view),
        "slices.csv": _slices(view),
        "dialogues.csv": _dialogues(view),
        "gate.csv": _gate(view),
    }
    paths = []
    for name, rows in tables.items():
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerows([[_spreadsheet(value) for value in row] for row in rows])
        write_text_atomically(out_dir / name, buffer.getvalue())
        paths.append(out_dir / name)
    return tuple(paths)


def _spreadsheet(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    text = shorten(visible(value), 32_000)
    return f"'{text}" if text[:1] in set("=+-@\t\r") else text


def _values(view: RunView) -> Rows:
    rows: Rows = [
        ("metric", "label", "unit", "higher_is_better", "variant", "value", "low", "high", "n", "method", "signature")
    ]
    for name, metric in view.summary.metrics.items():
        for variant, row in metric.variants.items():
            rows.append(
                (
                    name,
                    metric.label,
                    metric.unit,
                    str(metric.higher_is_better),
                    variant,
                    row.value,
                    row.low,
                    row.high,
                    row.n,
                    row.method,
                    metric.signature,
                )
            )
    return rows


def _comparisons(view: RunView) -> Rows:
    keys = (
        "metric",
        "variant",
        "against",
        "value",
        "low",
        "high",
        "n",
        "mde",
        "outcome",
        "needed_n",
        "p_value",
        "wins",
        "ties",
        "losses",
        "relative",
        "method",
    )
    return [keys, *([getattr(row, key) for key in keys] for row in view.summary.comparisons)]


def _slices(view: RunView) -> Rows:
    rows: Rows = [
        ("column", "level", "metric", "variant", "against", "value", "low", "high", "n", "outcome", "q_value")
    ]
    for row in view.summary.slices:
        found = row.comparison
        rows.append(
            (
                row.column,
                row.level,
                found.metric,
                found.variant,
                found.against,
                found.value,
                found.low,
                found.high,
                found.n,
                found.outcome,
                row.q_value,
            )
        )
    return rows


def _dialogues(view: RunView) -> Rows:
    """One line a dialogue and variant, with every score and the rules that fired; texts stay in the run folder."""
    names = [
        name
        for name in view.summary.metrics
        if any(name in reply.scores for replies in view.replies.values() for reply in replies.values())
    ]
    rows: Rows = [("id", "variant", "reply_tokens", "finish", "nll", "reference_tokens", "error", "rules", *names)]
    for dialogue in view.dialogues:
        for variant, replies in view.replies.items():
            reply = replies.get(dialogue.id)
            if reply is None:
                continue
            rules = "; ".join(f"{finding.metric}: {finding.rule}" for finding in reply.findings)
            rows.append(
                (
                    dialogue.id,
                    variant,
                    reply.reply_tokens,
                    reply.finish,
                    reply.nll,
                    reply.reference_tokens,
                    reply.error,
                    rules,
                    *(reply.scores.get(name) for name in names),
                )
            )
    return rows


def _gate(view: RunView) -> Rows:
    keys = (
        "id",
        "metric",
        "candidate",
        "against",
        "slice",
        "rule",
        "requirement",
        "verdict",
        "severity",
        "scale",
        "value",
        "low",
        "high",
        "n",
        "needed_n",
        "sentence",
    )
    checks = view.gate.checks if view.gate else ()
    return [keys, *([getattr(check, key) for key in keys] for check in checks)]
