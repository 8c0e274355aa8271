"""Where a run can be exported to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from harness.errors import InputError, did_you_mean
from harness.export.figures import ExportedRun, read_run
from harness.store.folder import RunFolder


@dataclass(frozen=True)
class Wanted:
    """What the user asked for. ``out`` is a file, a folder or, for MLflow, a URI; None is a place in the run folder.

    ``variant`` is the one whose card is written; ``with_report`` adds the page, which contains dialogues.
    """

    out: str | None = None
    variant: str | None = None
    with_report: bool = False

    def place(self, run: ExportedRun, default: str) -> Path:
        """Return the file or folder to write to; raise InputError for a URI."""
        if self.out is not None and "://" in self.out:
            raise InputError(f"--out {self.out}: only MLflow takes a URI. Name a file or folder.")
        return Path(self.out) if self.out else run.folder.root / "exports" / default


Exporter = Callable[[ExportedRun, Wanted], list[str]]  # returns what was written, a line each

# By the name that --to takes: the module with its ``export``, imported when it is asked for.
EXPORTERS = {
    "mlflow": "to_mlflow",
    "trackio": "to_trackio",
    "wandb": "to_wandb",
    "model-card": "model_card",
    "github-action-benchmark": "benchmark_action",
    "lm-eval": "lm_eval",
}
TAKE_REPORT = ("mlflow",)


def export(run: Path, to: str, wanted: Wanted) -> list[str]:
    """Export a finished run and return what was written, a line each.

    Raises InputError for an unknown destination or an option that it does not take, and what ``read_run`` raises.
    """
    if to not in EXPORTERS:
        known = f" Known: {', '.join(EXPORTERS)}."
        raise InputError(f"A run cannot be exported to '{to}'.{did_you_mean(to, tuple(EXPORTERS)) or known}")
    if wanted.with_report and to not in TAKE_REPORT:
        raise InputError(f"--with-report is for {' and '.join(TAKE_REPORT)}; {to} takes numbers only.")
    if wanted.variant is not None and to != "model-card":
        raise InputError(f"--variant is for model-card; {to} takes all variants.")
    exporter: Exporter = import_module(f"harness.export.{EXPORTERS[to]}").export
    return exporter(read_run(RunFolder(run)), wanted)
