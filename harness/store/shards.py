"""Shards: what one of several processes that measure a run together has found, until all of it is joined.

Process 0 of 2 appends to ``records/PASS/VARIANT.0-of-2.jsonl``, whose first line says which plan it follows, and notes
in ``ranks/0-of-2.json``, a ``RunManifest``, whether its share is done and what happened on the way.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files import AnyRow, Row, read_rows, write_rows
from harness.store.folder import RunFolder
from harness.store.schema import Record, pass_names, record_of

PLAN = "plan"  # the key of the plan's digest among a manifest's digests
_SHARD = re.compile(r"\.\d+-of-\d+")


class ShardHead(Row):
    """The first line of a shard: the digest of the plan that it is a part of, and which part."""

    plan: str
    part: str


class ShardFolder(RunFolder):
    """A run folder as one of several processes sees it: it reads what was joined and its own shards, and writes these.

    ``part`` is written RANK-of-N.
    """

    def __init__(self, root: Path | str, part: str) -> None:
        super().__init__(root)
        self.part = part
        self.manifest_path = self.root / "ranks" / f"{part}.json"

    def records_path(self, pass_name: str, variant: str) -> Path:
        return super().records_path(pass_name, f"{variant}.{self.part}")

    def records(self, model: type[AnyRow], pass_name: str, variant: str) -> list[AnyRow]:
        joined = RunFolder(self.root).records(model, pass_name, variant)
        return [*joined, *read_rows(model, self.records_path(pass_name, variant), torn_tail="ignore", head=1)]

    def begin(self, plan: str, passes: Collection[str], variants: Collection[str]) -> None:
        """Write the first line of every shard that is not there yet."""
        for pass_name in passes:
            for variant in variants:
                path = self.records_path(pass_name, variant)
                if not path.exists():
                    write_rows(path, [ShardHead(plan=plan, part=self.part)])

    def follows(self, plan: str) -> bool:
        """Return whether this part was begun, and under this plan."""
        return self.manifest_path.exists() and self.read_manifest().digests.get(PLAN) == plan


def parts_of(folder: RunFolder) -> list[ShardFolder]:
    """Return the parts that were begun and not joined yet, in a fixed order."""
    return [ShardFolder(folder.root, path.stem) for path in sorted((folder.root / "ranks").glob("*-of-*.json"))]


def events_of(*folders: RunFolder) -> tuple[dict[str, Any], ...]:
    """Return what happened in these folders or parts, each event once."""
    events: list[dict[str, Any]] = []
    for folder in folders:
        events += [event for event in folder.read_manifest().events if event not in events]
    return tuple(events)


def join_shards(folder: RunFolder, variants: Collection[str], plan: str | None = None) -> None:
    """Move the records of all shards to ``records/PASS/VARIANT.jsonl``, each once; interrupted, it can be done again.

    Raises InputError if two shards differ about a dialogue, or if one does not belong to ``plan`` (None: to any).
    """
    for pass_name in pass_names():
        for variant in variants:
            shards = _shards_of(folder, pass_name, variant, variants)
            if shards:
                for shard in shards if plan is not None else ():
                    _refuse_other_plan(shard, plan)
                if rows := _joined(folder, pass_name, variant, shards):
                    write_rows(folder.records_path(pass_name, variant), rows)
                for shard in shards:
                    shard.unlink()


def _shards_of(folder: RunFolder, pass_name: str, variant: str, variants: Collection[str]) -> list[Path]:
    whole = folder.records_path(pass_name, variant)
    found = sorted(whole.parent.glob(f"{glob.escape(variant)}.*.jsonl"))
    named = [path for path in found if _SHARD.fullmatch(path.stem.removeprefix(variant))]
    return [path for path in named if path.stem not in variants]


def _refuse_other_plan(shard: Path, plan: str | None) -> None:
    head = next(read_rows(ShardHead, shard, torn_tail="ignore"), None)
    if head is None or head.plan != plan:
        raise InputError(
            f"{shard} was measured under another plan: its process had another config, weights, dialogues or kind of "
            "GPU. Remove it, and run the same command again to measure its part."
        )


def _joined(folder: RunFolder, pass_name: str, variant: str, shards: list[Path]) -> list[Record]:
    model = record_of(pass_name)
    assert model is not None
    found: dict[tuple[str, ...], tuple[Path, Record]] = {}
    joined = folder.records_path(pass_name, variant)
    sources = [(joined, folder.records(model, pass_name, variant))]
    sources += [(shard, list(read_rows(model, shard, torn_tail="ignore", head=1))) for shard in shards]
    for path, rows in sources:
        for row in rows:
            before, known = found.setdefault(row.identity, (path, row))
            if known != row:
                raise InputError(
                    f"{before} and {path} differ about '{row.id}', which was measured twice. Remove one of the two "
                    "files, and run the same command again."
                )
    return [row for _, row in found.values()]
