"""The command line. Only ``cli`` modules deal with the terminal; all others return values or raise ``errors``.

Heavy modules are imported inside the commands, so that ``--help`` is fast and ``gate``, ``report``, ``compare`` and
``score`` work without torch.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from harness.cli.edited import warn_of_edits
from harness.cli.gate import BaselinesFolder, baseline_app, gate, thresholds_app
from harness.cli.leaderboard import leaderboard
from harness.errors import DEBUG_HELP, InputError, guarded, require
from harness.machine import leave

app = typer.Typer(
    name="harness",
    help="Measure base, adapter and merged variants of a medical-dialogue model, and judge them.",
    epilog=DEBUG_HELP,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("gate")(gate)
app.command("leaderboard")(leaderboard)
app.add_typer(baseline_app, name="baseline")
app.add_typer(thresholds_app, name="thresholds")


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"medical-dialogue-harness {version('medical-dialogue-harness')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show it.")
    ] = False,
) -> None: ...


RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="a run folder")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override a key of the config")]


@app.command()
def run(
    config: Annotated[str, typer.Argument(metavar="[CONFIG]", help="a shipped name or a YAML path")] = "quickstart",
    out: Annotated[Path | None, typer.Option(help="run folder; an unfinished run is resumed")] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=1, help="measure a random sample of N held-out dialogues of each set, drawn by the seed"),
    ] = None,
    overrides: SetOption = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option("--allow-base-mismatch", help="measure an adapter over a base other than its own")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="show what would be measured and what it would take; write nothing")
    ] = False,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="measure part I of N (from 0), e.g. in a Slurm array")
    ] = None,
) -> None:
    """Measure the variants; write the run folder and its report."""
    require("run", "harness run")
    from harness.progress import shown_progress

    given = list(overrides or [])
    if limit is not None:
        given.append(f"limit={limit}")
    if allow_base_mismatch:
        given.append("allow_base_mismatch=true")
    if dry_run:
        from harness.jobs.run import dry_run as described

        for line in described(config, out, overrides=given):
            typer.echo(line)
        return
    with shown_progress() as progress:
        progress.note(f"Run '{config}': reading its variants and dialogues.")  # before what takes seconds to import
        from harness.jobs import run as jobs

        folder = jobs.run(config, out, overrides=given, progress=progress, shard=shard)
    if folder.summary_path.exists():
        _print_summary(folder.root)


@app.command()
def score(
    replies: Annotated[
        list[str] | None,
        typer.Option("--replies", metavar="NAME=FILE", help="replies generated elsewhere; one file per system"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="run folder to write")] = None,
    run_folder: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="score a saved run again, in place")
    ] = None,
    reference: Annotated[str | None, typer.Option(help="the system that others are compared with")] = None,
    overrides: SetOption = None,
) -> None:
    """Score replies generated elsewhere, or a saved run again, and write the report. No model is needed."""
    from harness.jobs import score as scoring_jobs
    from harness.progress import shown_progress

    with shown_progress() as progress:
        folder = scoring_jobs.score(
            replies or [], out, run=run_folder, reference=reference, overrides=overrides or [], progress=progress
        )
    _print_summary(folder.root)


@app.command()
def report(
    run: RunArgument,
    baseline: Annotated[str | None, typer.Option(metavar="RUN|NAME", help="an earlier run to compare with")] = None,
    baselines: BaselinesFolder = None,
    out: Annotated[Path | None, typer.Option(help="HTML file; default: report.html in the run folder")] = None,
    redact_text: Annotated[bool, typer.Option("--redact-text", help="leave out all dialogue and reply text")] = False,
    csv: Annotated[Path | None, typer.Option(metavar="DIR", help="also write the tables as CSV files")] = None,
    reading_list: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="also write a sheet of N dialogues for people to mark, and its key"),
    ] = None,
    price_per_gpu_hour: Annotated[
        float | None, typer.Option(help="also say what replies cost (default: the config's price)")
    ] = None,
    currency: Annotated[str, typer.Option(help="of the price")] = "USD",
    open_page: Annotated[bool, typer.Option("--open", help="show the page in a browser")] = False,
) -> None:
    """Render the report again."""
    from harness.gating.trend import trend
    from harness.jobs.guard import locked
    from harness.results.cost import Price
    from harness.store.baselines import Baselines
    from harness.store.folder import RunFolder
    from reports.render import write_report

    if reading_list is not None and redact_text:
        raise InputError("--reading-list is for reading, so it cannot be combined with --redact-text.")
    folder = RunFolder(run)
    folder.read_manifest()  # refuses a folder that is not a run before a lock file is created in it
    store = Baselines(baselines)
    earlier = store.find(baseline) if baseline else None
    moved = trend(store, baseline) if baseline and any(note.name == baseline for note in store.history()) else None
    if price_per_gpu_hour is not None and not 0 < price_per_gpu_hour < math.inf:
        raise InputError("--price-per-gpu-hour must be a number above 0.")
    price = None if price_per_gpu_hour is None else Price(price_per_gpu_hour, currency)
    with locked(folder) if out is None else nullcontext():
        written = write_report(folder, out, baseline=earlier, trend=moved, redact_text=redact_text, price=price)
    warn_of_edits([run])
    typer.echo(f"Report: {written}")
    if csv is not None:
        from reports.tables import write_csv

        for path in write_csv(folder, csv):
            typer.echo(f"Table: {path}")
    if reading_list is not None:
        from reports.reading_list import write_reading_list

        sheet, key = write_reading_list(folder, reading_list, out.parent if out else None)
        typer.echo(f"Reading list: {sheet}\nIts key, not for the readers: {key}")
    if open_page:
        from harness.cli.browser import opened

        if advice := opened(written):
            typer.echo(advice)


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="two or more run folders")],
    out: Annotated[Path, typer.Option(help="HTML file")] = Path("comparison.html"),
) -> None:
    """Show runs side by side, in the terminal and as HTML."""
    from harness.files import write_text_atomically
    from harness.store.folder import RunFolder
    from reports.compare import comparison_text, render_comparison

    if len(runs) < 2:
        raise InputError("compare needs at least two run folders.")
    folders = [RunFolder(path) for path in runs]
    warn_of_edits(runs)
    typer.echo(comparison_text(folders))
    write_text_atomically(out, render_comparison(folders))
    typer.echo(f"Comparison: {out}")


@app.command()
def export(
    run: RunArgument,
    to: Annotated[str, typer.Option(help="mlflow, trackio, wandb, model-card, github-action-benchmark or lm-eval")],
    out: Annotated[
        str | None, typer.Option(metavar="PATH", help="file or folder, or MLflow's URI; default: in the run folder")
    ] = None,
    variant: Annotated[str | None, typer.Option(help="model-card: whose card (default: the first adapter)")] = None,
    with_report: Annotated[
        bool, typer.Option("--with-report", help="mlflow: the page too, which contains dialogues")
    ] = False,
) -> None:
    """Hand a finished run's numbers to other tools. Nothing is sent but to the place that --out names."""
    from harness.export.destinations import Wanted
    from harness.export.destinations import export as exported

    for line in exported(run, to, Wanted(out, variant, with_report)):
        typer.echo(f"Exported: {line}")


@app.command()
def metrics(
    modules: Annotated[
        list[str] | None, typer.Option("--module", help="a Python file or module with additional metrics")
    ] = None,
) -> None:
    """List every metric with its unit, scale, direction and what it cannot see."""
    from rich.console import Console
    from rich.padding import Padding

    from harness.metrics.loading import all_specs
    from harness.metrics.registry import MetricOptions

    console = Console(highlight=False)
    directions = {True: "higher is better", False: "lower is better", None: "only a range is good"}
    for spec in all_specs(MetricOptions(modules=tuple(modules or ()))).values():
        unit = f"{spec.unit}, {spec.scale}" if spec.scale else spec.unit
        heuristic = " (heuristic)" if spec.heuristic else ""
        console.print(
            f"[bold]{spec.name}[/bold]{heuristic}: {unit}; {directions[spec.higher_is_better]}", soft_wrap=True
        )
        found = spec.accuracy
        measured = ""
        if found:
            measured = f"precision {found.precision:.2f}, recall {found.recall:.2f} over {found.pairs} labelled pairs"
        screen = "read its findings; not for gating" if spec.screen else ""
        lines = (("sees", spec.sees), ("cannot see", spec.blind_to), ("measured", measured), ("screen", screen))
        for what, text in lines:
            if text:
                console.print(Padding(f"{what}: {text}", (0, 0, 0, 2)), markup=False)


@app.command()
def doctor(
    config: Annotated[
        str | None, typer.Argument(metavar="[CONFIG]", help="also ask the servers of its served variants")
    ] = None,
) -> None:
    """Check what this machine has and lacks, and how to fix it."""
    from harness.cli.doctor import examine, examine_servers

    findings = examine() + (examine_servers(config) if config is not None else [])
    for finding in findings:
        mark = {"ok": "ok     ", "warning": "warning", "missing": "missing"}[finding.state]
        typer.echo(f"{mark}  {finding.what}: {finding.detail}")
        if finding.fix:
            typer.echo(f"         {finding.fix}")
    if any(finding.state == "missing" for finding in findings):
        raise typer.Exit(4)


def _print_summary(root: Path) -> None:
    from harness.store.folder import RunFolder
    from reports.text import summary_text

    folder = RunFolder(root)
    typer.echo(f"\n{summary_text(folder, columns=_columns())}\n")
    typer.echo(f"Run folder: {root}")
    if folder.report_path.exists():
        typer.echo(f"Report: {folder.report_path.resolve().as_uri()}")


def _columns() -> int | None:
    """Return how wide the terminal is, at least 60; None for a log, which does not wrap."""
    if not sys.stdout.isatty() and "COLUMNS" not in os.environ:
        return None
    return max(shutil.get_terminal_size().columns, 60)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; see ``guarded``."""
    command = partial(typer.main.get_command(app).main, prog_name="python -m harness", standalone_mode=False)
    advice = "Interrupted. Finished work is kept; run the same command to continue."
    return guarded(command, sys.argv[1:] if arguments is None else arguments, interrupted=advice)


def command() -> NoReturn:
    """Run the command line as a process of its own."""
    leave(main())
