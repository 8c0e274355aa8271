"""Text for a terminal: aligned columns that continue below where it is too narrow, and wrapped sentences."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from reports.escape import shorten, visible

COLUMNS = 80
_LABEL = 24  # characters that the first column keeps beside the widest cell


def aligned(table: Sequence[Sequence[str]], *, ruled: bool = False) -> list[str]:
    """Return the rows as lines with aligned columns; ``ruled`` adds a rule under the first."""
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
    return [lines[0], "  ".join("─" * width for width in widths), *lines[1:]] if ruled else lines


def continued(table: Sequence[Sequence[str]], columns: int = COLUMNS, *, ruled: bool = False) -> list[str]:
    """Return aligned lines of at most ``columns`` characters; columns that do not fit continue below.

    Each part begins with the first column. Only a cell that does not fit beside it is shortened.
    """
    labels, *rest = zip(*table, strict=True)
    cells = [[_fitted(cell, columns - 2 - _LABEL) for cell in column] for column in rest]
    widths = [2 + max(map(len, column)) for column in cells]
    labels = tuple(_fitted(label, columns - max(widths, default=0)) for label in labels)
    width = max(map(len, labels))
    parts: list[list[Sequence[str]]] = [[labels]]
    used = width
    for column, wide in zip(cells, widths, strict=True):
        if used + wide > columns:
            parts.append([labels])
            used = width
        parts[-1].append(column)
        used += wide
    tables = [aligned(list(zip(*part, strict=True)), ruled=ruled) for part in parts]
    return [line for place, table in enumerate(tables) for line in ([""] if place and ruled else []) + table]


def wrapped(text: str, indent: str = "", columns: int = COLUMNS) -> list[str]:
    """Return a sentence as lines that begin as it does, further ones with ``indent``. Words and paths stay whole."""
    start = text[: len(text) - len(text.lstrip())]
    lines = textwrap.wrap(
        visible(text.strip()),
        columns,
        initial_indent=start,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return lines or [""]


def _fitted(cell: str, limit: int) -> str:
    return cell if len(cell) <= limit else shorten(cell, limit)
