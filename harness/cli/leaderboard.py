"""``leaderboard``: the variants of several runs, in groups."""

from __future__ import annotations

import os
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Annotated

import typer

from harness.errors import InputError

if TYPE_CHECKING:
    from rich.text import Text

    from reports.leaderboard import Leaderboard

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
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    brief = [(place, head.brief) for place, head in enumerate(board.table.heads) if head.brief]
    table.add_column("")
    table.add_column("variant", overflow="fold")
    for _, name in brief:
        table.add_column(_shown("\n".join(wrap(name, 16))), no_wrap=True)
    for number, (_, rows) in enumerate(board.table.groups, 1):
        for row in rows:
            figures = [row.figures[place] for place, _ in brief]
            shown = (_two(figure.value, figure.interval if at < 2 else "") for at, figure in enumerate(figures))
            table.add_row(str(number), _two(row.variant, f"{row.run}, {row.when}"), *shown)
        table.add_section()
    console.print(table)
    console.print()
    for line in board.notes:
        console.print(_shown(line))


def _two(first: str, second: str) -> Text:
    from rich.text import Text

    return Text.assemble(_shown(first), *(("\n", _shown(second)) if second else ()))


def _shown(text: str) -> Text:
    from rich.text import Text

    from reports.escape import shorten, visible

    return Text(shorten(visible(text), 2000))  # on one line: a name must not look like another row
