"""The history of a baseline for a terminal, and as a page of its own."""

from __future__ import annotations

from collections.abc import Sequence

from harness.gating.trend import OTHER_DIALOGUES, Line, Trend
from reports.escape import visible
from reports.figures.trend import changes, title_of
from reports.numbers import amount, is_share, unit_word
from reports.render import render_page
from reports.terminal import aligned, wrapped
from reports.trend_view import BASIS, NOTHING, VALUES_ONLY, run_rows, sentence, trend_facts, values_only
from reports.words import direction, listed


def history_text(trend: Trend) -> str:
    """Return the history for a terminal of 80 columns."""
    lines = wrapped(f"{trend.name}: {sentence(trend)}")
    lines.append("")
    for row in run_rows(trend):
        gate = "not gated" if row.gate is None else f"gate: {row.gate.word}"
        lines += wrapped(f"{row.number:>3}  {row.run.when[:10]}  {row.run.run}  {gate}", "     ")
        lines += wrapped(f"     {row.run.reason}", "     ")
        lines += wrapped(f"     ({'; '.join(row.notes)})", "     ") if row.notes else []
    for line in trend.lines:
        lines += ["", *_line_text(line)]
    if not trend.lines:
        return "\n".join([*lines, "", *wrapped(NOTHING)]) + "\n"
    lines += ["", *wrapped(BASIS)] if len(trend.runs) > 1 else []
    lines += wrapped(f"* {VALUES_ONLY}", "  ") if values_only(trend) else []
    return "\n".join(lines) + "\n"


def _line_text(line: Line) -> list[str]:
    newest = line.newest
    unit = "" if is_share(newest.unit) or newest.unit == "MiB" else unit_word(newest.unit)
    head = wrapped(", ".join(filter(None, (title_of(line), unit, direction(newest.higher_is_better)))))
    table: list[Sequence[str]] = []
    obstacles: dict[str, list[str]] = {}
    for number, point in enumerate(line.points, 1):
        if point is None or point.found.value is None:
            table.append((f"{number:>3}", "not recorded", "", "", "", ""))
            continue
        found = point.found
        change, within, outcome = changes(point) if point.change else ("", "", "")
        value, interval = amount(found.value, found.low, found.high, unit=found.unit)
        mark = "*" if point.unpaired else ""
        table.append((f"{number:>3}", value, interval, change, within, outcome.partition(",")[0] + mark))
        if point.obstacle and point.obstacle != OTHER_DIALOGUES:  # the list of runs says that
            obstacles.setdefault(point.obstacle, []).append(str(number))
    lines = [visible(line) for line in aligned(table)]
    told = [wrapped(f"     {listed(numbers)}: {why}", "     ") for why, numbers in obstacles.items()]
    return [*head, *lines, *(line for one in told for line in one)]


def render_history(trend: Trend) -> str:
    """Return the history as one HTML page."""
    return render_page("history.html", {"trend": trend_facts(trend)})
