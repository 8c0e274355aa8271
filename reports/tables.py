"""The run's tables as CSV files, for scripts and spreadsheets. They contain no dialogue or reply text."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from harness.files import write_text_atomically
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow
from reports.escape import shorten, visible
from reports.view import RunView, read_view

Rows = list[Sequence[object]]
_INTERVAL = ("value", "low", "high", "n")
_COMPARISON = [key for key in ComparisonRow.model_fields if key != "warnings"]
_SLICE = ("metric", "variant", "against", *_INTERVAL, "outcome")
_REPLY = ("reply_tokens", "finish", "nll", "reference_tokens", "error")
_CHECK = ("id", "metric", "candidate", "against", "slice", "rule", "requirement", "verdict", "severity", "scale")


def write_csv(folder: RunFolder, out_dir: Path) -> tuple[Path, ...]:
    """Write the run's tables as CSV files under ``out_dir`` and return their paths."""
    view = read_view(folder)
    tables = {
        "values.csv": _values(view),
        "comparisons.csv": _table(_COMPARISON, view.summary.comparisons),
        "slices.csv": _slices(view),
        "dialogues.csv": _dialogues(view),
        "gate.csv": _table((*_CHECK, *_INTERVAL, "needed_n", "sentence"), view.gate.checks if view.gate else ()),
    }
    paths = []
    for name, rows in tables.items():
        write_text_atomically(out_dir / name, csv_text(rows))
        paths.append(out_dir / name)
    return tuple(paths)


def csv_text(rows: Rows) -> str:
    """Return the rows as CSV; text that a spreadsheet would interpret as a formula gets an apostrophe in front."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([[_spreadsheet(value) for value in row] for row in rows])
    return buffer.getvalue()


def _spreadsheet(value: object) -> object:
    if not isinstance(value, str):
        return "" if value is None else value
    text = shorten(visible(value), 32_000)
    return f"'{text}" if text[:1] in set("=+-@\t\r") else text


def _table(keys: Sequence[str], rows: Sequence[object]) -> Rows:
    return [keys, *(_fields(row, keys) for row in rows)]


def _fields(row: object, keys: Sequence[str]) -> list[object]:
    return [getattr(row, key) for key in keys]


def _values(view: RunView) -> Rows:
    names = ("metric", "label", "unit", "higher_is_better", "variant", *_INTERVAL, "method", "signature")
    rows = [
        (
            *(name, metric.label, metric.unit, str(metric.higher_is_better), variant),
            *_fields(row, (*_INTERVAL, "method")),
            metric.signature,
        )
        for name, metric in view.summary.metrics.items()
        for variant, row in metric.variants.items()
    ]
    return [names, *rows]


def _slices(view: RunView) -> Rows:
    rows = [(row.column, row.level, *_fields(row.comparison, _SLICE), row.q_value) for row in view.summary.slices]
    return [("column", "level", *_SLICE, "q_value"), *rows]


def _dialogues(view: RunView) -> Rows:
    """Return a row per dialogue and variant with every score and the rules that fired, but no text."""
    scored = {name for replies in view.replies.values() for reply in replies.values() for name in reply.scores}
    names = [name for name in view.summary.metrics if name in scored]
    rows: Rows = [("id", "variant", *_REPLY, "rules", *names)]
    for dialogue in view.dialogues:
        for variant, replies in view.replies.items():
            if reply := replies.get(dialogue.id):
                rules = "; ".join(f"{finding.metric}: {finding.rule}" for finding in reply.findings)
                scores = [reply.scores.get(name) for name in names]
                rows.append((dialogue.id, variant, *_fields(reply, _REPLY), rules, *scores))
    return rows
