"""The run folders below a folder. They may be anyone's: what cannot be used is told with the reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path

from harness.errors import HarnessError, InputError, text_of
from harness.gating.statistics import RunStatistics, known_metrics
from harness.metrics.registry import MetricSpec
from harness.store.folder import RunFolder
from harness.store.paths import shorten_paths, without_paths
from harness.store.schema import RunManifest, Summary
from harness.store.seals import PROMPTS, REFERENCES, check, content_digests

DEEPEST = 8  # levels below the folder that are searched
MOST_FOLDERS = 100_000
UNKNOWN = "unknown"
SETS = "sets"  # RUN/sets/NAME is the run over a further set of dialogues


@dataclass(frozen=True)
class Apart:
    """A run that is not on the board, by its path below the folder that was searched, and why."""

    name: str
    reason: str


@dataclass(frozen=True, eq=False)
class FoundRun:
    """A finished, unedited run. ``name`` is its path below the folder that was searched.

    ``within`` is the name of the further set that it is about, or empty. Paths of the machine are left out of the
    manifest.
    """

    name: str
    folder: RunFolder
    manifest: RunManifest
    summary: Summary
    within: str = ""

    @cached_property
    def registry(self) -> dict[str, MetricSpec]:
        return known_metrics(self.summary)

    @cached_property
    def statistics(self) -> RunStatistics:
        return RunStatistics(self.folder, registry=self.registry)

    @cached_property
    def asked(self) -> tuple[str, str]:
        """The digests of the references and of the prompts, both with the dialogues' IDs."""
        sealed = self.manifest.digests
        if REFERENCES not in sealed or PROMPTS not in sealed:
            sealed = content_digests(self.folder.dialogues_by_id())
        return sealed[REFERENCES], sealed[PROMPTS]

    @cached_property
    def ended(self) -> datetime | None:
        """When it was finished; None if what ``run.json`` says, which no seal covers, is not a date."""
        try:
            told = datetime.fromisoformat(self.manifest.finished or self.manifest.started)
            return (told if told.tzinfo else told.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    @property
    def when(self) -> str:
        """When it was finished, in UTC and ISO 8601 to the second, or ``unknown``."""
        return self.ended.isoformat()[:19] if self.ended else UNKNOWN


def find_runs(root: Path) -> tuple[list[FoundRun], list[Apart]]:
    """Return the finished runs below ``root`` (itself included) and those that cannot be used.

    Hidden folders and symbolic links are not entered. Raises InputError if ``root`` is not a folder, or holds more
    folders than are searched.
    """
    if not root.is_dir():
        what = "is not a folder" if root.exists() else "does not exist"
        raise InputError(f"{root} {what}. Name a folder that contains run folders.")
    runs: list[FoundRun] = []
    apart: list[Apart] = []
    for path, obstacle in _run_folders(root):
        name = path.name if path == root else path.relative_to(root).as_posix()
        try:
            if obstacle is not None:
                raise InputError(f"It cannot be searched: {obstacle.strerror}.")
            runs.append(read_run(path, name))
        except (HarnessError, OSError) as error:
            apart.append(Apart(name, shorten_paths(text_of(error))))
    return runs, apart


def read_run(path: Path, name: str) -> FoundRun:
    """Read a run folder; raise InputError if it cannot be read, is not finished, failed a check or was edited."""
    folder = RunFolder(path)
    manifest = folder.read_manifest()
    if manifest.state != "complete":
        raise InputError("It failed." if manifest.state == "failed" else "It is running, or was interrupted.")
    if failed := [one.name for one in manifest.sanity if not one.ok]:
        raise InputError(f"A sanity check failed: {failed[0]}. Its figures are not to be relied on.")
    if problems := check(folder, manifest):
        raise InputError(problems[0])
    in_set = path.parent.name == SETS and (path.parent.parent / "run.json").is_file()
    return FoundRun(name, folder, without_paths(manifest), folder.read_summary(), path.name if in_set else "")


def _run_folders(root: Path) -> Iterator[tuple[Path, OSError | None]]:
    """Yield the run folders at most ``DEEPEST`` levels below, in the order of their paths.

    A folder that cannot be read may contain runs, so it is yielded too, with the reason.
    """
    waiting, seen = [(root, 0)], 0
    while waiting:
        path, depth = waiting.pop()
        seen += 1
        if seen > MOST_FOLDERS:
            raise InputError(f"{root} has more than {MOST_FOLDERS:,} folders. Name the one that contains the runs.")
        try:
            is_run = (path / "run.json").is_file()
            searched = path / SETS if is_run else path
            entered = depth < DEEPEST and not (is_run and (searched.is_symlink() or not searched.is_dir()))
            inner = _folders(searched) if entered else []
        except OSError as error:
            yield path, error
            continue
        if is_run:
            yield path, None
        waiting += [(one, depth + 1) for one in reversed(inner)]


def _folders(path: Path) -> list[Path]:
    with os.scandir(path) as entries:
        found = [Path(entry) for entry in entries if entry.is_dir(follow_symlinks=False)]
    return sorted(one for one in found if not one.name.startswith("."))
