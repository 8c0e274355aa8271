"""The command line of finetune. torch is imported only when work begins."""

from __future__ import annotations

import sys
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, TypeVar, get_args

import typer

from finetune.ranks import started_first
from harness.errors import DEBUG_HELP, InputError, debug_requested, did_you_mean, guarded, require
from harness.progress import quiet_libraries, quiet_transformers, shown_progress
from harness.variants.model import MergeStrategy

Known = TypeVar("Known", bound=str)

app = typer.Typer(
    help="Make what the harness measures: base, adapter and merged model.",
    epilog=DEBUG_HELP,
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
OutOption = Annotated[Path | None, typer.Option("--out", help="Folder to write to (default: runs/RECIPE).")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override a key, e.g. --set training.max_steps=10. Can be repeated.")
]
SeedsOption = Annotated[
    int | None,
    typer.Option("--seeds", min=1, help="Train as many adapters: with the recipe's seed, the next one, and so on."),
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Show what would be trained and the memory it needs; train nothing.")
]


@app.command("run")
def run_command(
    recipe: RecipeArgument = "quickstart",
    out: OutOption = None,
    set_: SetOption = None,
    seeds: SeedsOption = None,
    dry_run: DryRunOption = False,
) -> None:
    """Make the base, train, merge, and write variants.json for the harness."""
    require("train", "finetune run")
    if dry_run:
        _dry_run(recipe, out, set_ or [], seeds or 1)
        return
    from finetune import pipeline

    quiet_transformers()
    pipeline.run(recipe, out, set_ or [], seeds=seeds, notify=typer.echo, progress=shown_progress, together=True)


@app.command("train")
def train_command(
    recipe: RecipeArgument = "quickstart", out: OutOption = None, set_: SetOption = None, dry_run: DryRunOption = False
) -> None:
    """Train only: write OUT/adapter (and OUT/base if the recipe builds one)."""
    require("train", "finetune train")
    if dry_run:
        _dry_run(recipe, out, set_ or [])
        return
    from finetune import pipeline

    quiet_transformers()
    folder = pipeline.train(recipe, out, set_ or [], notify=typer.echo, progress=shown_progress, together=True)
    if started_first():
        typer.echo(f"The adapter is in {folder}.")


@app.command("merge")
def merge_command(
    base: Annotated[str, typer.Option("--base", help="Folder or Hub ID of the base the adapter was trained over.")],
    adapter: Annotated[Path, typer.Option("--adapter", help="Folder of the adapter.")],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the merged model to.")],
    strategy: Annotated[
        str | None,
        typer.Option("--strategy", help="dequantized (default after 4-bit training), original or in-place-4bit."),
    ] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda or cuda:N.")] = "auto",
    quantization: Annotated[
        str | None,
        typer.Option("--quantization", help="What the adapter was trained over, if it has no record: nf4 or none."),
    ] = None,
    allow_base_mismatch: Annotated[
        bool, typer.Option("--allow-base-mismatch", help="Merge even if the adapter was trained over other weights.")
    ] = False,
) -> None:
    """Merge an adapter into its base, check the result against the adapter, and report the loss of precision."""
    checked = _one_of("--strategy", strategy, get_args(MergeStrategy))
    trained_over = _one_of("--quantization", quantization, ("nf4", "none"))
    require("run", "finetune merge")
    from finetune.merging import MergeOptions, merge_adapter
    from finetune.pipeline import describe_merge

    options = MergeOptions(checked, device, trained_over, allow_base_mismatch=allow_base_mismatch)
    typer.echo(describe_merge(merge_adapter(base, adapter, out, options)))


def _dry_run(recipe: str, out: Path | None, overrides: list[str], seeds: int = 1) -> None:
    from finetune.dry_run import describe, dry_run

    for line in describe(dry_run(recipe, overrides, out), seeds):
        typer.echo(line)


def _one_of(option: str, value: str | None, known: tuple[Known, ...]) -> Known | None:
    """Return ``value`` if it is known; raise InputError otherwise."""
    found = next((each for each in known if each == value), None)
    if value is not None and found is None:
        raise InputError(f"{option} {value}: must be one of {', '.join(known)}.{did_you_mean(value, known)}")
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code; see ``guarded``."""
    given = sys.argv[1:] if arguments is None else arguments
    if not debug_requested(given):
        quiet_libraries()
        warnings.simplefilter("ignore")
    command = partial(typer.main.get_command(app).main, prog_name="python -m finetune", standalone_mode=False)
    return guarded(command, given, interrupted="Interrupted. Run the same command to resume from the last checkpoint.")
