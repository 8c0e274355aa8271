"""Seals of a run folder: the SHA-256 of every measured file, so that manual edits are detected.

The runner stores ``seal(folder)`` in ``run.json``'s ``digests`` when a run is complete (and again when it is scored
again). Keys are paths in the folder, e.g. ``replies/base.jsonl``, and two that survive redaction:
``content:references`` (the held-out dialogues' ids and references) and ``content:prompts`` (ids and rendered prompts).
A seal protects against accidents and casual edits, but not against someone who also rewrites ``run.json``.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from harness.files import digest_bytes, digest_file
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, RunManifest

PATTERNS = (
    "dialogues.jsonl",
    "summary.json",
    "memory.json",
    "roofline.json",
    "replies/*.jsonl",
    "records/*/*.jsonl",
)
REFERENCES = "content:references"
PROMPTS = "content:prompts"


def sealed_files(folder: RunFolder) -> dict[str, Path]:
    """Return the measured files of a run folder by relative path, in a fixed order."""
    found = (path for pattern in PATTERNS for path in sorted(folder.root.glob(pattern)))
    return {path.relative_to(folder.root).as_posix(): path for path in found if path.is_file()}


def seal(folder: RunFolder) -> dict[str, str]:
    """Return the digests to store in ``run.json`` beside those of the inputs."""
    digests = {name: digest_file(path) for name, path in sealed_files(folder).items()}
    return digests | content_digests(folder.dialogues())


def content_digests(dialogues: Iterable[DialogueRow]) -> dict[str, str]:
    """Return the digests of prompts and references, independent of the order of the dialogues."""
    rows = sorted(dialogues, key=lambda row: row.id)
    return {
        REFERENCES: _digest([[row.id, row.reference, *row.further_references] for row in rows]),
        PROMPTS: _digest([[row.id, row.prompt] for row in rows]),
    }


def check(folder: RunFolder, manifest: RunManifest) -> list[str]:
    """Return one sentence per difference from the seal."""
    present = sealed_files(folder)
    sealed = {name: digest for name, digest in manifest.digests.items() if is_measured(name)}
    if not sealed:
        return ["run.json has no digests of the run's files, so edits cannot be detected."]
    problems = [f"{name} is missing, but existed when the run ended." for name in sealed if name not in present]
    problems += [f"{name} was added after the run ended." for name in present if name not in sealed]
    problems += [
        f"{name} was changed after the run ended: its digest is not the one in run.json."
        for name, path in present.items()
        if name in sealed and digest_file(path) != sealed[name]
    ]
    return problems


def is_measured(name: str) -> bool:
    """Return whether a key of the digests names a measured file rather than an input."""
    return any(Path(name).match(pattern) and name.count("/") == pattern.count("/") for pattern in PATTERNS)


def _digest(value: object) -> str:
    return digest_bytes(json.dumps(value, ensure_ascii=True).encode("ascii"))
