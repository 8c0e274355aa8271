"""The ``gate``, ``baseline`` and ``thresholds`` commands."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.edited import warn_of_edits
from harness.errors import InputError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from harness.gating.verdict import GateResult

BaselinesFolder = Annotated[
    Path | None, typer.Option("--baselines", help="Folder of baselines (default: HARNESS_BASELINES or ./baselines)")
]
LOG_WIDTH = 160  # for CI logs, which are not a terminal and do not wrap
COLOURS = {"pass": "green", "fail": "red", "error": "red", "inconclusive": "yellow"}

baseline_app = typer.Typer(no_args_is_help=True, help="Accept a run as a named baseline; show accepted baselines.")
thresholds_app = typer.Typer(no_args_is_help=True, help="Write a first thresholds file; show what a change loosens.")


def gate(
    run: Annotated[Path, typer.Argument(help="Run folder")],
    thresholds: Annotated[str, typer.Option(help="Thresholds file, or a shipped one: adapter-release, quickstart")],
    baseline: Annotated[str | None, typer.Option(help="Run folder or baseline name to compare with")] = None,
    candidate: Annotated[str | None, typer.Option(help="Variant to judge (default: the file's)")] = None,
    explain: Annotated[str | None, typer.Option(metavar="CHECK", help="Print the computation of one check")] = None,
    baselines: BaselinesFolder = None,
    first: Annotated[
        bool, typer.Option("--first", help="No run was accepted yet: leave out the checks that compare with one")
    ] = False,
) -> None:
    """Judge a finished run. Exit code: 0 passed, 1 failed, 3 inconclusive, 4 could not be judged."""
    from harness.gating.gate import gate as judge_run

    if explain is not None:
        _refuse_unknown_check(thresholds, explain)
    result = judge_run(run, thresholds, baseline=baseline, candidate=candidate, baselines=baselines, first=first)
    console = _console()
    if explain is None:
        _print_checks(console, result)
    else:
        _print_lines(console, _steps(result, explain))
    _print_verdict(console, result)
    raise typer.Exit(result.exit_code)


@baseline_app.command("accept")
def accept(
    run: Annotated[Path, typer.Argument(help="Run folder")],
    name: Annotated[str, typer.Option(help="Name of the baseline, e.g. main")],
    reason: Annotated[str, typer.Option(help="Why this run becomes the baseline; kept in the history")],
    force: Annotated[bool, typer.Option("--force", help="Accept a run whose gate did not pass")] = False,
    redact_text: Annotated[
        bool, typer.Option("--redact-text", help="Keep numbers only, no prompts or replies")
    ] = False,
    who: Annotated[str | None, typer.Option(help="Who accepts (default: the login name)")] = None,
    baselines: BaselinesFolder = None,
) -> None:
    """Accept a finished run under a name that later runs are compared with."""
    from harness.gating.accepted import measured
    from harness.store.baselines import Baselines

    store = Baselines(baselines)
    note = store.accept(run, name, reason, who=who, force=force, redact_text=redact_text, measure=measured)
    gated = "not gated" if note.gate == "none" else f"gate: {note.gate}"
    _print_lines(_console(), [f"Accepted {note.run} as baseline '{note.name}' in {store.root} ({gated})."])


@baseline_app.command("show")
def show(
    name: Annotated[str | None, typer.Argument(help="Only this baseline")] = None,
    baselines: BaselinesFolder = None,
) -> None:
    """Show the accepted baselines and their history, newest first."""
    from harness.store.baselines import Baselines

    store = Baselines(baselines)
    names = store.names()
    if name is not None and name not in names:
        store.find(name)  # raises, with the nearest name
    history = [note for note in reversed(store.history()) if name in (None, note.name)]
    lines = [f"{store.root}: {', '.join(names)}" if names else f"{store.root} contains no baselines yet."]
    current: set[str] = set()
    for note in history:
        mark = " " if note.name in current else "*"
        current.add(note.name)
        extra = "".join(
            f", {word}" for word, applies in (("forced", note.forced), ("redacted", note.redacted)) if applies
        )
        lines.append(
            f"{mark} {note.name}  {note.when}  {note.who}  {note.run} {note.run_digest[:12]}  "
            f"numbers {(note.numbers_digest or 'unknown')[:12]}  gate: {note.gate}{extra}"
        )
        lines.append(f"    {note.reason}")
    _print_lines(_console(), lines)


@baseline_app.command("history")
def history(
    name: Annotated[str, typer.Argument(help="Name of the baseline")],
    out: Annotated[Path | None, typer.Option(help="Also write a page with charts: FILE.html")] = None,
    baselines: BaselinesFolder = None,
) -> None:
    """Show how the gate's metrics moved over the accepted runs, and where one got worse."""
    from harness.files import write_text_atomically
    from harness.gating.trend import trend
    from harness.store.baselines import Baselines
    from reports.history import history_text, render_history

    found = trend(Baselines(baselines), name)
    typer.echo(history_text(found), nl=False)
    if out is not None:
        write_text_atomically(out, render_history(found))
        typer.echo(f"\nHistory: {out}")


@thresholds_app.command("init")
def init(
    run: Annotated[Path, typer.Argument(help="A finished run folder")],
    out: Annotated[Path, typer.Option(help="File to write")] = Path("thresholds.yaml"),
    candidate: Annotated[str | None, typer.Option(help="Variant to judge (default: the first adapter)")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file")] = False,
) -> None:
    """Write a first thresholds file from a run's results, with comments on every value to review."""
    from harness.gating.thresholds_init import write_thresholds

    checks = write_thresholds(run, out, candidate=candidate, force=force)
    warn_of_edits([run])
    _print_lines(_console(), [f"Wrote {out} with {checks} checks. Review it and set limits that suit your use."])


@thresholds_app.command("diff")
def diff(
    old: Annotated[str, typer.Argument(help="Thresholds file, or a shipped name")],
    new: Annotated[str, typer.Argument(help="Thresholds file, or a shipped name")],
    strict: Annotated[bool, typer.Option("--strict", help="Exit with code 1 if anything is loosened")] = False,
) -> None:
    """Describe what a change of thresholds loosens, tightens or otherwise changes."""
    from harness.gating.policy import load_policy
    from harness.gating.thresholds_diff import compare

    changes = compare(load_policy(old).policy, load_policy(new).policy)
    lines = [f"{change.effect.upper():9} {change.where}: {change.sentence}." for change in changes]
    _print_lines(_console(), lines or ["The two files are equivalent."])
    if strict and any(change.effect == "loosened" for change in changes):
        raise typer.Exit(1)


def _refuse_unknown_check(thresholds: str, check_id: str) -> None:
    """Reject an unknown check before judging, because exit code 2 means that nothing was judged."""
    from harness.gating.policy import load_policy

    ids = [check.id for check in load_policy(thresholds).checks]
    if ids and check_id not in ids:
        raise InputError(f"--explain: there is no check '{check_id}'.{did_you_mean(check_id, ids)}")


def _steps(result: GateResult, check_id: str) -> list[str]:
    from harness.gating.explain import explain

    if not result.checks:
        return ["Nothing was judged, so there is nothing to explain.", *result.problems]
    return [f"{number}. {step}" for number, step in enumerate(explain(result.check(check_id)), 1)]


def _print_checks(console: Console, result: GateResult) -> None:
    """Print each check with what was found, the failed ones first."""
    from rich.table import Table

    from harness.gating.sentences import heading, told_together
    from harness.gating.verdict import PRECEDENCE

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for together in told_together(sorted(result.checks, key=lambda check: PRECEDENCE.index(check.verdict))):
        check = together[0]
        verdict = check.verdict if check.decides or check.verdict == "pass" else f"{check.verdict} (warn)"
        names = ": ".join(filter(None, heading(together)))
        table.add_row(_shown(verdict, COLOURS[check.verdict]), _shown(names, "bold"))
        table.add_row("", _shown(check.sentence))
    if result.checks:
        console.print(table)


def _print_verdict(console: Console, result: GateResult) -> None:
    from harness.gating.sentences import shared_warnings

    lines = [f"Warning: {warning}" for warning in (*result.warnings, *shared_warnings(result.checks))]
    _print_lines(console, [*lines, *result.problems[1:]])
    head = f"{result.verdict.upper()} (exit code {result.exit_code}). {result.sentence}"
    console.print(_shown(head, f"bold {COLOURS[result.verdict]}"))


def _print_lines(console: Console, lines: Iterable[str]) -> None:
    for line in lines:
        console.print(_shown(line))


def _shown(text: str, style: str = "") -> Text:
    from rich.text import Text

    from harness.gating.sentences import without_controls

    return Text(without_controls(text), style=style)


def _console() -> Console:
    from rich.console import Console

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = LOG_WIDTH
    return console
