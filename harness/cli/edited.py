"""What the terminal says of run folders that were edited. Their pages have the same sentences among the warnings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import typer


def warn_of_edits(runs: Sequence[Path]) -> None:
    """Say on standard error which measured files of these run folders are not as their runs left them."""
    from harness.store.folder import RunFolder
    from harness.store.seals import edited

    for run in runs:
        folder = RunFolder(run)
        for problem in edited(folder, folder.read_manifest()):
            typer.echo(f"Warning: {run}: {problem}", err=True)
