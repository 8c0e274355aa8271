"""A whole job as a command runs it: find the config, make the variants if a recipe is named, measure, render.

Only this module and ``cli`` call ``finetune`` and ``reports``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from harness.backends.choose import resolve_device, take_gpu
from harness.backends.ranks import share_of
from harness.config import RunConfig
from harness.errors import InputError
from harness.jobs.guard import check_belongs, refuse_edited
from harness.jobs.inputs import template_name
from harness.jobs.prepare import check
from harness.jobs.ranks import run as measure_and_finish
from harness.machine import without_collecting_the_old
from harness.progress import Progress, SilentProgress, quiet_libraries, quiet_transformers
from harness.sets import naming, set_configs
from harness.store.folder import RunFolder
from harness.variants.resolve import find as find_beside
from harness.yamlfile import apply_overrides, find, load, validate


def read_config(config: str | Path, overrides: Sequence[str] = ()) -> tuple[RunConfig, Path]:
    """Return a config by shipped name or YAML path with overrides applied, and the folder it is in."""
    path = find(config, Path(__file__).parents[1] / "configs", "config")
    return load(RunConfig, path, overrides), path.parent


def default_out(config: str | Path) -> Path:
    """Return the default folder of a config's run: ``runs/NAME/run``."""
    return Path("runs") / Path(str(config)).stem / "run"


def run(
    config: RunConfig | dict[str, Any] | str | Path = "quickstart",
    out: str | Path | None = None,
    *,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    shard: str | None = None,
) -> RunFolder:
    """Make the variants if the config names a recipe, measure them, and render the report.

    Of several processes (started by a launcher, or each with its ``shard`` I/N) only the last to be done renders.
    Returns the run folder. Raises InputError (nothing was written) or HarnessError (existing measurements are kept).
    """
    share = share_of(shard)
    progress = progress if progress and not share.local else SilentProgress()  # one process of a host speaks
    quiet_libraries()
    chosen, out, config_folder = _settled(config, out, overrides)
    if share.of > 1:
        _refuse_what_needs_one_process(chosen)
        take_gpu(share, chosen.device)
    if chosen.finetune is not None:
        _check_before_training(chosen, config_folder)
        make_variants(chosen, progress)
    folder = measure_and_finish(chosen, out, share, progress=progress, config_folder=config_folder)
    if folder is None:
        return RunFolder(out)
    render(folder, progress)
    return folder


def dry_run(config: str | Path, out: str | Path | None = None, *, overrides: Sequence[str] = ()) -> list[str]:
    """Return what ``run`` would do, as lines to print; nothing is loaded, downloaded or written.

    Raises InputError for what ``run`` refuses before it measures.
    """
    from harness.jobs.dry_run import describe, to_be_made

    quiet_libraries()
    chosen, _, config_folder = _settled(config, out, overrides)
    if chosen.finetune is not None:
        _check_before_training(chosen, config_folder)
        if isinstance(chosen.variants, str) and not find_beside(chosen.variants, config_folder).exists():
            return to_be_made(chosen)
    with _without_downloads():
        return describe(check(chosen, config_folder), resolve_device(chosen.device, chosen.placement))


@contextmanager
def _without_downloads() -> Iterator[None]:
    """Let models and data sets of the Hub be found in the local cache alone."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _settled(
    config: RunConfig | dict[str, Any] | str | Path, out: str | Path | None, overrides: Sequence[str]
) -> tuple[RunConfig, str | Path, Path | None]:
    """Return the config, the run folder and the config's folder; refuse a folder that holds something else."""
    config_folder: Path | None = None
    if isinstance(config, RunConfig):
        chosen = config
    elif isinstance(config, dict):
        chosen = validate(RunConfig, apply_overrides(config, overrides), source="config", overrides=overrides)
    else:
        chosen, config_folder = read_config(config, overrides)
    if out is None:
        if not isinstance(config, str | Path):
            raise InputError("The argument 'out' is required when the config is not a name or a path.")
        out = default_out(config)
    check_belongs(RunFolder(out), chosen)
    refuse_edited(RunFolder(out))
    return chosen, out, config_folder


def _refuse_what_needs_one_process(config: RunConfig) -> None:
    if config.finetune is not None:
        raise InputError(
            f"finetune: several processes cannot make the variants while they measure. Run `python -m finetune run "
            f"{config.finetune}` first, and name its variants.json without 'finetune'."
        )
    if config.placement == "auto":
        raise InputError(
            "placement: auto gives one process all GPUs, so it cannot be shared among several. Start a single process, "
            "or set placement: single."
        )


def _check_before_training(config: RunConfig, config_folder: Path | None) -> None:
    """Raise InputError for mistakes that would otherwise be found only after minutes of training."""
    from harness.dialogues.prompts import load_template
    from harness.metrics.loading import load_metrics

    for name, one in set_configs(config).items():
        with naming(name):
            load_metrics(one.metrics, one.metric_options)
            load_template(template_name(one.prompt, config_folder), one.chat_template)
    resolve_device(config.device, config.placement)


def make_variants(config: RunConfig, progress: Progress) -> None:
    """Run the config's recipe, reusing whatever has not changed since the last time."""
    if not isinstance(config.variants, str) or Path(config.variants).name != "variants.json":
        raise InputError(
            "finetune: with a recipe, 'variants' must be the path of the variants.json that the recipe writes."
        )
    from finetune.pipeline import run as finetune_run

    quiet_transformers()
    recipe = config.finetune or "quickstart"
    finetune_run(recipe, Path(config.variants).parent, notify=progress.note, progress=lambda: nullcontext(progress))


def render(folder: RunFolder, progress: Progress) -> None:
    """Write ``report.html`` and ``summary.md`` into the run folder, and into those of further sets."""
    from reports.render import write_report

    progress.note("Rendering the report.")
    with without_collecting_the_old():
        write_report(folder)
