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
    task = re.sub(r"\W+", "_", PurePath(run.data_source()).stem, flags=re.ASCII).strip("_") or "dialogues"
    lines = []
    for variant, facts in run.variants.items():
        results: dict[str, float | str] = {"alias": task}
        better: dict[str, bool] = {}
        for figure in run.figures(variant):
            if figure.against is not None or not figure.metric.startswith(FAMILIES):
                continue
            results[f"{figure.metric},none"] = figure.value
            results[f"{figure.metric}_stderr,none"] = "N/A"
            if figure.higher_is_better is not None:
                better[figure.metric] = figure.higher_is_better
            for end, value in (("low", figure.low), ("high", figure.high)):
                if value is not None:
                    results[f"{figure.metric}.{end},none"] = value
        covered = run.summary.coverage.get(variant)
        generation = run.manifest.config.get("generation")
        path = place / variant / "results.json"
        write_json(
            path,
            {
                "results": {task: results},
                "group_subtasks": {task: []},
                "configs": {task: {"task": task, "dataset_path": run.data_source(), "generation_kwargs": generation}},
                "versions": {task: 0},
                "n-shot": {task: 0},
                "higher_is_better": {task: better},
                "n-samples": {
                    task: {
                        "original": covered.dialogues if covered else 0,
                        "effective": covered.answered if covered else 0,
                    }
                },
                "config": {"model": facts.get("kind"), "model_args": run.variant_settings(variant), **run.facts},
                "model_name": variant,
                "model_source": "medical-dialogue-harness",
                "git_hash": dict(run.manifest.provenance.get("git") or {}).get("commit"),
            },
        )
        lines.append(f"{path}: {len(better)} metrics")
    return lines
