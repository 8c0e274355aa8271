"""``results.json`` in the form of lm-evaluation-harness, one for each variant, with the quality and safety metrics.

lm-eval states standard errors. A run has intervals, which are not symmetric in general, so that each metric's
``_stderr`` is "N/A", as lm-eval writes it without a bootstrap, and the ends are metrics of their own.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from harness.export.destinations import Wanted
from harness.export.figures import ExportedRun
from harness.files import write_json

FAMILIES = ("quality.", "safety.")


def export(run: ExportedRun, wanted: Wanted) -> list[str]:
    """Write ``VARIANT/results.json`` for every variant."""
    place = wanted.place(run, "lm-eval")
    tasks = {name: _task(run, name) for name in run.sets}
    generation = run.manifest.config.get("generation")
    lines = []
    for variant, facts in run.variants.items():
        results: dict[str, dict[str, float | str]] = {task: {"alias": task} for task in tasks.values()}
        better: dict[str, dict[str, bool]] = {task: {} for task in tasks.values()}
        for figure in run.figures(variant):
            if figure.against is not None or not figure.metric.startswith(FAMILIES):
                continue
            task = tasks[figure.set]
            results[task][f"{figure.metric},none"] = figure.value
            results[task][f"{figure.metric}_stderr,none"] = "N/A"
            if figure.higher_is_better is not None:
                better[task][figure.metric] = figure.higher_is_better
            for end, value in (("low", figure.low), ("high", figure.high)):
                if value is not None:
                    results[task][f"{figure.metric}.{end},none"] = value
        path = place / variant / "results.json"
        write_json(
            path,
            {
                "results": results,
                "group_subtasks": {task: [] for task in tasks.values()},
                "configs": {
                    task: {"task": task, "dataset_path": run.data_source(name), "generation_kwargs": generation}
                    for name, task in tasks.items()
                },
                "versions": dict.fromkeys(tasks.values(), 0),
                "n-shot": dict.fromkeys(tasks.values(), 0),
                "higher_is_better": better,
                "n-samples": {task: _samples(run, variant, name) for name, task in tasks.items()},
                "config": {"model": facts.get("kind"), "model_args": run.variant_settings(variant), **run.facts},
                "model_name": variant,
                "model_source": "medical-dialogue-harness",
                "git_hash": dict(run.manifest.provenance.get("git") or {}).get("commit"),
            },
        )
        lines.append(f"{path}: {sum(map(len, better.values()))} metrics")
    return lines


def _task(run: ExportedRun, of: str) -> str:
    """Return a task's name: the set's, or of a run without sets that of its data."""
    named = of or next(iter(run.manifest.sets), "")
    stem = re.sub(r"\W+", "_", PurePath(run.data_source()).stem, flags=re.ASCII).strip("_")
    return named or stem or "dialogues"


def _samples(run: ExportedRun, variant: str, of: str) -> dict[str, int]:
    covered = run.sets[of].coverage.get(variant)
    return {"original": covered.dialogues if covered else 0, "effective": covered.answered if covered else 0}
