"""The command line of finetune. Only here is the terminal known; torch is imported only once work begins."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from finetune.terminal import draw_progress
from harness.errors import HarnessError, InputError, file_error
from harness.extras import require
from harness.progress import quiet_libraries, quiet_transformers

INTERRUPTED = 130

app = typer.Typer(
    help="Makes what the harness measures: base, adapter and merged model.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


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


RecipeArgument = Annotated[str, typer.Argument(help="A shipped recipe's name or a YAML file.")]
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write to; default runs/RECIPE.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Change a key, e.g. --set training.max_steps=10. May be repeated.")
]
DebugOption = Annotated[bool, typer.Option("--debug", help="Show a traceback when something goes wrong.")]


@app.command("run")
def run_command(
    recipe: RecipeArgument = "quickstart",
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained and what memory it needs; train nothing.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Base, training, merge, and variants.json for the harness."""

    def work() -> None:
        require("train", "finetune run")
        if dry_run:
            _dry_run(recipe, out, set_ or [])
            return
        from finetune import pipeline

        quiet_transformers()
        pipeline.run(recipe, out, set_ or [], say=_say, progress=draw_progress)

    _guarded(work, debug)


@app.command("train")
def train_command(
    recipe: RecipeArgument = "quickstart",
    out: OutOption = None,
    set_: SetOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="As for run.")] = False,
    debug: DebugOption = False,
) -> None:
    """The training alone: writes OUT/adapter (and OUT/base where the recipe builds one)."""

    def work() -> None:
        require("train", "finetune train")
        if dry_run:
            _dry_run(recipe, out, set_ or [])
            return
        from finetune import pipeline

        quiet_transformers()
        folder = pipeline.train(recipe, out, set_ or [], say=_say, progress=draw_progress)
        _say(f"The adapter is in {folder}.")

    _guarded(work, debug)


@app.command("merge")
def merge_command(
    base: Annotated[str, typer.Option("--base", help="Folder or hub id of the base the adapter was trained over.")],
    adapter: Annotated[Path, typer.Option("--adapter", help="Folder of the adapter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the merged model to.")],
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="dequantized (default after 4-bit training), original or in-place-4bit."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    quantization: Annotated[
        str | None,
        typer.Option("--quantization", help="What the adapter was trained over, if it has no record: nf4, none."),
    ] = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option("--allow-base-mismatch", help="Merge even if the adapter was trained over other weights.")
    ] = False,
    debug: DebugOption = False,
) -> None:
    """Merge an adapter into its base, streamed shard by shard, and say what was lost."""

    def work() -> None:
        checked = _one_of("--strategy", strategy, ("dequantized", "original", "in-place-4bit"))
        trained_over = _one_of("--quantization", quantization, ("nf4", "none"))
        require("run", "finetune merge")
        from finetune.merging import MergeOptions, merge_adapter
        from finetune.pipeline import describe_merge

        options = MergeOptions(
            strategy=checked,  # type: ignore[arg-type]  # one of the three, checked above
            device=device,
            quantization=trained_over,
            allow_base_mismatch=allow_base_mismatch,
        )
        _say(describe_merge(merge_adapter(base, adapter, out, options)))

    _guarded(work, debug)


def _dry_run(recipe: str, out: Path | None, overrides: list[str]) -> None:
    from finetune.dry_run import describe, dry_run

    for line in describe(dry_run(recipe, out, overrides)):
        _say(line)


def _one_of(option: str, value: str | None, known: tuple[str, ...]) -> str | None:
    from harness.errors import did_you_mean

    if value is not None and value not in known:
        raise InputError(f"{option} {value}: it is one of {', '.join(known)}.{did_you_mean(value, known)}")
    return value


def _say(message: str) -> None:
    typer.echo(message)


def _guarded(work: Callable[[], None], debug: bool) -> None:
    """Turn errors into one sentence and an exit code; keep libraries' chatter off the terminal."""
    if not debug:
        quiet_libraries()
        warnings.simplefilter("ignore")
    try:
        work()
    except HarnessError as error:
        if debug:
            raise
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("Interrupted. The same command continues from the last checkpoint.", err=True)
        raise typer.Exit(INTERRUPTED) from None
    except Exception as error:
        if debug:
            raise
        said = file_error(error)
        if said is not None:
            typer.echo(f"Error: {said}", err=True)
            raise typer.Exit(said.exit_code) from None
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        typer.echo(f"Error: {type(error).__name__}: {reason}. Run it again with --debug for the traceback.", err=True)
        raise typer.Exit(HarnessError.exit_code) from None


def main() -> None:
    """Run the command line; wrong usage exits with 2."""
    app(prog_name="python -m finetune")
    sys.exit(0)
