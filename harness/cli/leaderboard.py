"""``leaderboard``: the variants of several runs, in groups."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from reports.leaderboard import Leaderboard
    from reports.standing import StandingRow

MOST_LEAST = 24  # characters of a variant's name that other columns never take
_GAP = 2  # between columns
_WITH_INTERVALS = 2  # of the figures: the metric's value and the difference to the best
PIPED_WIDTH = 160  # for logs, which are not a terminal and do not wrap
_SUFFIXES = (".html", ".csv")


def leaderboard(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="a folder with run folders in it, at any depth")],
    metric: Annotated[
        str | None, typer.Option(metavar="METRIC", help="what to rank by (default: the runs' headline metric)")
    ] = None,
    like: Annotated[
        Path | None, typer.Option(metavar="RUN", help="rank the runs that asked the same as this one")
    ] = None,
    out: Annotated[
        list[Path] | None, typer.Option(metavar="FILE", help="also write FILE.html or FILE.csv; may be repeated")
    ] = None,
) -> None:
    """Rank the variants of all finished runs that asked the same dialogues, with ties."""
    for path in out or ():
        if path.suffix.lower() not in _SUFFIXES:
            raise InputError(f"--out {path}: name a file that ends in {' or '.join(_SUFFIXES)}.")
    from harness.files import write_text_atomically
    from harness.leaderboard.board import leaderboard as made
    from reports.leaderboard import leaderboard_csv, leaderboard_page, leaderboard_text

    board = made(folder, metric=metric, like=like)
    _print(leaderboard_text(board))
    for path in out or ():
        is_page = path.suffix.lower() == ".html"
        write_text_atomically(path, leaderboard_page(board) if is_page else leaderboard_csv(board))
        typer.echo(f"{'Page' if is_page else 'Table'}: {path}")


def _print(board: Leaderboard) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = PIPED_WIDTH
    for line in (f"{board.title}.", board.lead):
        console.print(_shown(line))
    console.print()
    for number, part in enumerate(_parts(board, console.width)):
        if number:
            console.print()
        table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
        table.add_column("")
        table.add_column("variant", overflow="fold", width=part.width)
        for place in part.places:
            table.add_column(_text(_head(board, place)), no_wrap=True)
        for group, (_, rows) in enumerate(board.table.groups, 1):
            for row in rows:
                name = [line for told in _names(row) for line in _broken(told, part.width)]
                table.add_row(str(group), _text(name), *(_text(_cell(row, place)) for place in part.places))
            table.add_section()
        console.print(table)
    console.print()
    for line in board.notes:
        console.print(_shown(line))


@dataclass(frozen=True)
class _Part:
    """A table of some of the figures: the width of the variants' names, and which they are."""

    width: int
    places: tuple[int, ...]


def _parts(board: Leaderboard, columns: int) -> list[_Part]:
    """Split the figures into tables that fit the terminal, each with enough room for the variants' names."""
    rows = [row for _, members in board.table.groups for row in members]
    texts = [text for row in rows for text in _names(row)]
    natural = max(len("variant"), *map(len, texts))
    least = min(MOST_LEAST, max(len("variant"), *(len(piece) for text in texts for piece in _pieces(text))))
    parts: list[list[int]] = [[]]
    widths: dict[int, int] = {}
    left = room = columns - len(str(len(board.table.groups))) - 2 * _GAP
    for place, head in enumerate(board.table.heads):
        if not head.brief:
            continue
        lines = [*_head(board, place), *(line for row in rows for line in _cell(row, place))]
        widths[place] = max(map(len, lines)) + _GAP
        if parts[-1] and widths[place] > left - least:
            parts.append([])
            left = room
        parts[-1].append(place)
        left -= widths[place]
    return [_Part(max(least, min(natural, room - sum(widths[one] for one in part))), tuple(part)) for part in parts]


def _head(board: Leaderboard, place: int) -> list[str]:
    return wrap(_line(board.table.heads[place].brief), 16, break_on_hyphens=False)


def _cell(row: StandingRow, place: int) -> list[str]:
    """Return a figure; that of the metric and that of the difference have their intervals below."""
    figure = row.figures[place]
    return [_line(text) for text in (figure.value, figure.interval if place < _WITH_INTERVALS else "") if text]


def _names(row: StandingRow) -> tuple[str, str]:
    """Return the variant, and the run that it is in."""
    return _line(row.variant), _line(f"{row.run}, {row.when}")


def _pieces(text: str) -> list[str]:
    """Return the parts of a name, between which a line may end: after a space or a slash."""
    return re.findall(r"[^ /]*[ /]?", text)


def _broken(text: str, width: int) -> list[str]:
    lines = [""]
    for piece in _pieces(text):
        if lines[-1] and len(lines[-1] + piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    return [line.rstrip() for line in lines]


def _line(text: str) -> str:
    """Return a text on one line: a name must not look like another row."""
    from reports.escape import shorten, visible

    return shorten(visible(text), 2000)


def _shown(text: str) -> Text:
    return _text([_line(text)])


def _text(lines: Sequence[str]) -> Text:
    from rich.text import Text

    return Text("\n".join(lines))
