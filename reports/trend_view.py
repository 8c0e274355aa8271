"""A baseline over time, for the page: which runs were accepted, how gated metrics moved, and where one got worse."""

from __future__ import annotations

from dataclasses import dataclass

from harness.gating.trend import Trend
from harness.store.acceptance import Acceptance
from reports.figures.chart import Chart
from reports.figures.trend import title_of, trend_chart
from reports.numbers import count
from reports.words import OUTCOMES, VERDICTS, Sign, listed

MARKS = (
    "A mark is an accepted run with its 95 % interval: ▼ if it is worse than the one before it, ▲ if it is better. "
    "Runs are joined where they were compared; a dashed stroke says that other dialogues were asked from there on."
)
BASIS = (
    "Changes are since the run accepted before, as the gate compares two runs: paired by dialogue, 95 % intervals. Of "
    "forty that did not change, about one is expected to be marked worse by chance."
)
VALUES_ONLY = (
    "From the recorded values alone, as if the dialogues were independent: the interval is wider than a paired one."
)
NOTHING = "No values were recorded: these runs were accepted by an earlier version. The next acceptance records them."


@dataclass(frozen=True)
class RunRow:
    """One accepted run. ``notes``: what is unusual about it. ``worse`` and ``better`` name metrics.

    ``quiet`` says why neither names one.
    """

    number: int
    run: Acceptance
    gate: Sign | None
    notes: tuple[str, ...]
    worse: str
    better: str
    quiet: str


def run_rows(trend: Trend) -> tuple[RunRow, ...]:
    """Return the accepted runs, oldest first."""
    return tuple(_run_row(trend, k) for k in range(len(trend.runs)))


def _run_row(trend: Trend, position: int) -> RunRow:
    run = trend.runs[position]
    notes = [word for word, applies in (("forced", run.forced), ("redacted", run.redacted)) if applies]
    notes += ["other dialogues from here on"] if trend.changed[position] else []
    notes += ["no values recorded"] if run.measured is None else []
    worse, better = (
        listed([title_of(line) for line in trend.lines if (found := line.points[position]) and found.outcome == word])
        for word in ("worse", "better")
    )
    changes = [point for line in trend.lines if (point := line.points[position]) and point.change]
    quiet = (
        "" if worse or better else "nothing clearly better or worse" if changes else "not compared" if position else "–"
    )
    return RunRow(position + 1, run, VERDICTS.get(run.gate), tuple(notes), worse, better, quiet)


def sentence(trend: Trend) -> str:
    """Say how many runs were accepted, and which of them was worse than the one before."""
    accepted = f"{count(len(trend.runs), 'accepted run')}"
    if len(trend.runs) < 2:
        return f"{accepted}; a trend begins with the second."
    if not any(line.points for line in trend.lines):
        return f"{accepted}."
    worse = [f"{row.worse} ({row.run.when[:10]}, {row.run.run})" for row in run_rows(trend) if row.worse]
    told = f"Worse than the run before: {'; '.join(worse)}." if worse else "None is clearly worse than the one before."
    return f"{accepted}. {told}"


def trend_charts(trend: Trend) -> tuple[Chart, ...]:
    """Return one chart for each metric that was recorded."""
    charts = (trend_chart(trend, line, f"trend-{k}") for k, line in enumerate(trend.lines))
    return tuple(chart for chart in charts if chart)


def trend_facts(trend: Trend) -> dict[str, object]:
    """Return what the templates show of a history."""
    return {
        "name": trend.name,
        "sentence": sentence(trend),
        "rows": run_rows(trend),
        "signs": OUTCOMES,
        "charts": trend_charts(trend),
        "marks": MARKS,
        "basis": BASIS,
        "values_only": VALUES_ONLY if values_only(trend) else "",
        "nothing": "" if trend.lines else NOTHING,
    }


def values_only(trend: Trend) -> bool:
    """Return whether a change is from recorded values, since the two runs were not there together."""
    return any(point.unpaired for line in trend.lines for point in line.points if point)
