"""What keeps a run folder whole: whose it is, who writes to it now, whether it was edited, what ended it early."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import InputError, text_of
from harness.files import locked as lock_held
from harness.files import remove_leftovers
from harness.store.config_changes import ConfigChange, config_changes, listed_changes
from harness.store.folder import RunFolder
from harness.store.schema import RunManifest

if TYPE_CHECKING:
    from harness.config import RunConfig
    from harness.progress import Progress


def remove_outdated(folder: RunFolder) -> None:
    """Leave nothing in the folder that shows the numbers it has, before they change: a kill may come at any time."""
    from harness.gating.outputs import mark_outdated

    mark_outdated(folder)
    for name in ("report.html", "summary.md"):
        (folder.root / name).unlink(missing_ok=True)


def refuse_edited(folder: RunFolder, progress: Progress | None = None) -> None:
    """Raise InputError if what a complete run measured was changed since: computing from it would seal the change.

    What was changed of what is computed from it is computed again, which ``progress`` is told.
    """
    from harness.store.seals import edits

    manifest = folder.read_manifest() if folder.manifest_path.exists() else None
    if manifest is None or manifest.state != "complete":
        return
    found = edits(folder, manifest)
    if found.sources:
        raise InputError(f"{folder.root}: {found.sources[0]} Restore it, or measure again into another folder.")
    if progress is not None:
        for problem in found.computed:
            progress.note(f"Warning: {problem} It is computed again.")


def check_belongs(folder: RunFolder, config: RunConfig) -> None:
    """Raise InputError if the folder contains anything but a run of this config."""
    from harness.passes.keys import changed_settings, config_digest

    def changed(manifest: RunManifest) -> Sequence[ConfigChange]:
        if manifest.kind == "score":
            return config_changes({"kind": "score"}, {"kind": "run"})
        return changed_settings(manifest.config, config)

    refuse_other(folder, config_digest(config), changed)


def refuse_other(folder: RunFolder, digest: str, changed: Callable[[RunManifest], Sequence[ConfigChange]]) -> None:
    """Raise InputError if the folder contains anything but a run whose config has this digest.

    ``changed`` says what differs from the config of the run that is there.
    """
    root = folder.root
    if root.is_file():
        raise InputError(f"{root} is a file, but --out must be a folder.")
    if folder.manifest_path.exists():
        manifest = folder.read_manifest()
        if manifest.config_digest != digest:
            changes = listed_changes(changed(manifest))
            raise InputError(
                f"{root} belongs to a run with another config{f' ({changes})' if changes else ''}. Choose another "
                "--out, or delete the folder."
            )
    # A run killed before its first run.json was in place may have left its temporary file.
    elif root.is_dir() and not all(
        (p.name.startswith((".lock", ".run.json."))) and not p.is_symlink() for p in root.iterdir()
    ):
        instead = "Delete it" if folder.whole() else "Choose another --out"
        raise InputError(f"{root} is not empty and not a run folder. {instead}.")


def lock_of(folder: RunFolder, part: str) -> Path:
    """Return the lock that a process holds while it measures a part of the run (RANK-of-N)."""
    return folder.root / f".lock-{part}"


def running(folder: RunFolder, besides: str | None = None) -> list[str]:
    """Return which parts (RANK-of-N) other processes are measuring now. The folder must be locked meanwhile."""
    found = []
    for lock in sorted(folder.root.glob(".lock-*-of-*")):
        part = lock.name.removeprefix(".lock-")
        if part != besides:
            try:
                with lock_held(lock, ""):
                    pass
            except InputError:
                found.append(part)
    return found


def forget_parts(folder: RunFolder) -> None:
    """Remove what told the processes of a run from each other, once their shards are joined."""
    shutil.rmtree(folder.root / "ranks", ignore_errors=True)
    for lock in folder.root.glob(".lock-*-of-*"):
        lock.unlink()


def refuse_running(folder: RunFolder) -> None:
    """Raise InputError if several processes are measuring this run now."""
    if parts := running(folder):
        raise InputError(
            f"{folder.root} is being measured by other processes ({', '.join(parts)}). Wait for them to finish, or "
            "choose another --out."
        )


@contextmanager
def failures_recorded(folder: RunFolder) -> Iterator[None]:
    """Record whatever ends the block early in ``run.json``, state ``failed``; the same command then continues.

    Ctrl-C is no failure: the run stays ``running``, as after a kill. Nothing is recorded before ``run.json`` exists.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        with suppress(Exception):  # a full disk must not hide what went wrong first
            folder.write_manifest(
                folder.read_manifest().model_copy(update={"state": "failed", "error": text_of(error)})
            )
        raise


@contextmanager
def locked(folder: RunFolder, *, wait: float = 0.0) -> Iterator[None]:
    """Lock the run folder and remove what killed runs left half written.

    Raises InputError if someone else still holds it after ``wait`` seconds.
    """
    busy = f"{folder.root} is in use by another process. Wait for it to finish, or choose another --out."
    with lock_held(folder.root / ".lock", busy, wait=wait):
        remove_leftovers(folder.root, folder.root / "replies", *(folder.root / "records").glob("*/"))
        yield
