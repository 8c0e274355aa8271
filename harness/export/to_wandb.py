"""Weights & Biases, offline: a run for each variant, grouped by the harness's run. ``wandb sync`` sends them later."""

from __future__ import annotations

import os

from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun

PROJECT = "medical-dialogue-harness"


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Write offline runs; neither this machine's name, paths and load nor the program's output are in them."""
    place = wanted.place(run, "wandb").resolve()
    place.mkdir(parents=True, exist_ok=True)
    for variable in [name for name in os.environ if name.startswith("WANDB_")]:
        del os.environ[variable]  # a server, or one run's ID for all variants
    os.environ["WANDB_ERROR_REPORTING"] = "false"
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        host="",
        silent=True,
        x_disable_machine_info=True,
        x_disable_meta=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    count = 0
    for variant in run.variants:
        one = wandb.init(
            mode="offline",
            dir=place,
            project=PROJECT,
            group=run.name,
            name=f"{run.name}-{variant}",
            config={**run.facts, **run.settings(), **run.variant_settings(variant)},
            settings=settings,
        )
        values = run.values(variant)
        one.summary.update(values)
        one.finish()
        count += len(values)
    return [f"{place}: {len(run.variants)} offline runs, {count} values; `wandb sync` sends them"]
