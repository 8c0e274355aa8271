"""A run folder: where its files are, and how records are appended so that a kill loses at most the current dialogue."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from pydantic import BaseModel

from harness.errors import HarnessError, InputError
from harness.files import AnyRow, dump_row, read_model, read_rows, refuse_deleted, write_model, write_rows
from harness.store.indexed import IndexedRows
from harness.store.schema import DialogueRow, Record, ReplyRow, RunManifest, Summary

SET_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")  # a folder's name on any system


class RunFolder:
    """Paths of a run folder and typed access to its files.

    The folder may be someone else's: a variant's name must not lead out of it, and symbolic links are refused.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.manifest_path = self.root / "run.json"
        self.dialogues_path = self.root / "dialogues.jsonl"
        self.summary_path = self.root / "summary.json"
        self.memory_path = self.root / "memory.json"
        self.report_path = self.root / "report.html"

    def set_folder(self, name: str) -> RunFolder:
        """Return the run folder of a further set; a name that leads elsewhere is refused."""
        if not SET_NAME.fullmatch(name):
            raise InputError(f"{self.manifest_path}: the set name {name!r:.80} is not a folder's name.")
        return RunFolder(self.root / "sets" / name)

    def further_sets(self) -> dict[str, RunFolder]:
        """Return the folders of the run's sets but the first, whose numbers are in this one, by name and in order."""
        return {name: self.set_folder(name) for name in self.read_manifest().sets[1:]}

    def whole(self) -> RunFolder | None:
        """Return the run whose further set this is; None if it is a run by itself."""
        above = self.root.resolve().parent
        run = RunFolder(above.parent)
        return run if above.name == "sets" and run.manifest_path.is_file() else None

    def records_path(self, pass_name: str, variant: str) -> Path:
        return self.root / "records" / pass_name / self._file_of(variant)

    def replies_path(self, variant: str) -> Path:
        return self.root / "replies" / self._file_of(variant)

    def _file_of(self, variant: str) -> str:
        if any(character in variant for character in "/\\\0"):
            raise InputError(f"{self.manifest_path}: the variant name {variant!r:.80} is not a file name.")
        return f"{variant}.jsonl"

    def read_manifest(self) -> RunManifest:
        """Return ``run.json``; raise InputError if this is not a run folder, or contains what it must not.

        That is a symbolic link, or a variant whose name is not a file name.
        """
        if not self.root.exists():
            raise InputError(f"{self.root} does not exist. Give the folder of a run.")
        if not self.manifest_path.is_file():
            inner = self.root / "run"
            hint = f" Did you mean {inner}?" if (inner / "run.json").is_file() else ""
            raise InputError(f"{self.root} is not a run folder: it has no run.json.{hint}")
        self._refuse_links()
        manifest = read_model(RunManifest, self.manifest_path)
        for variant in manifest.variants:
            if not isinstance(variant.get("name"), str):
                raise InputError(f"{self.manifest_path}: a variant has no name.")
            self._file_of(variant["name"])
        return manifest

    def _refuse_links(self) -> None:
        """Raise InputError for a symbolic link, which may name any file of this machine, and for pipes and devices."""
        records = self.root / "records"
        passes = sorted(records.iterdir()) if records.is_dir() else []
        for place in (self.root, self.root / "replies", self.root / "sets", records, *passes):
            for entry in place.iterdir() if place.is_dir() else ():
                gone = not os.path.lexists(entry)  # another process's temporary file
                if entry.is_symlink() or not (entry.is_file() or entry.is_dir() or gone):
                    what = "a symbolic link" if entry.is_symlink() else "neither a file nor a folder"
                    raise InputError(f"{entry} is {what}, which a run folder must not contain. Replace it by a file.")

    def write_manifest(self, manifest: RunManifest) -> None:
        write_model(self.manifest_path, manifest)

    def read_summary(self) -> Summary:
        """Return ``summary.json``; raise InputError if the run has none."""
        if not self.summary_path.is_file():
            raise InputError(
                f"{self.root} has no summary.json: the run is not finished. Run the command that started it again."
            )
        return read_model(Summary, self.summary_path)

    def dialogues(self) -> list[DialogueRow]:
        return list(self.each_dialogue())

    def each_dialogue(self) -> Iterator[DialogueRow]:
        """Yield the dialogues in run order, holding one at a time."""
        return read_rows(DialogueRow, self.dialogues_path)

    def dialogues_by_id(self) -> IndexedRows[DialogueRow]:
        """Return the dialogues by ID, in run order, read when they are asked for."""
        return IndexedRows(DialogueRow, self.dialogues_path)

    def replies(self, variant: str) -> list[ReplyRow]:
        """Return a variant's joined replies in run order (empty if it has none)."""
        return list(self.each_reply(variant))

    def each_reply(self, variant: str) -> Iterator[ReplyRow]:
        """Yield a variant's joined replies in run order, holding one at a time (none if it has none)."""
        path = self.replies_path(variant)
        return read_rows(ReplyRow, path) if os.path.exists(path) else iter(())  # noqa: PTH110

    def replies_by_id(self, variant: str) -> IndexedRows[ReplyRow]:
        """Return a variant's joined replies by dialogue, in run order, read when they are asked for."""
        return IndexedRows(ReplyRow, self.replies_path(variant))

    def records_by_id(
        self, model: type[AnyRow], pass_name: str, variant: str, accept: Callable[[AnyRow], bool] | None = None
    ) -> IndexedRows[AnyRow]:
        """Return the finished records of a pass by dialogue, read when they are asked for; the later of two counts."""
        return IndexedRows(model, self.records_path(pass_name, variant), torn_tail="ignore", accept=accept)

    def records(self, model: type[AnyRow], pass_name: str, variant: str) -> list[AnyRow]:
        """Return the finished records of a pass (empty if it has none); a half-written last line is ignored."""
        path = self.records_path(pass_name, variant)  # a name from run.json may be too long for a file
        return list(read_rows(model, path, torn_tail="ignore")) if os.path.exists(path) else []  # noqa: PTH110


class RecordWriter:
    """Appends records to a file; each is flushed before ``append`` returns.

    A half-written last line, left by a writer that was killed, is removed on opening.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        refuse_deleted(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        repair_tail(path)
        self._file = path.open("ab")

    def append(self, rows: Iterable[BaseModel]) -> None:
        """Write the rows and flush them to the operating system.

        Raises HarnessError if the disk is full, or if the folder was deleted: the open file would swallow the rows.
        """
        refuse_deleted(self.path)
        data = "".join(dump_row(row) + "\n" for row in rows).encode("ascii")
        try:
            self._file.write(data)
            self._file.flush()
        except OSError as error:
            raise HarnessError(
                f"Cannot write {self.path}: {error.strerror}. Free some space and run the same command to continue."
            ) from error

    def close(self) -> None:
        self._file.close()

    def __enter__(self) -> RecordWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        # Closing retries what a full disk refused; its error must not hide the one that says what to do.
        with contextlib.suppress(OSError) if kind else contextlib.nullcontext():
            self.close()


def repair_tail(path: Path) -> int:
    """Remove a last line without a newline; return the number of bytes removed."""
    if not path.exists():
        return 0
    with path.open("rb+") as file:
        size = file.seek(0, os.SEEK_END)
        end = size
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)
        return size - end


def prune_records(path: Path, keys: set[str]) -> int:
    """Keep only the records with one of these keys; return the number removed."""
    if not path.exists():
        return 0
    repair_tail(path)
    rows = list(read_rows(Record, path))
    kept = [row for row in rows if row.key in keys]
    if len(kept) < len(rows):
        write_rows(path, kept)
    return len(rows) - len(kept)
