"""Seals of a run folder: the SHA-256 of every measured file, so that manual edits are detected.

The runner stores ``seal(folder)`` in ``run.json``'s ``digests`` when a run is complete (and again when it is scored
again). Keys are paths in the folder, e.g. ``replies/base.jsonl``, and digests of content that stay when files around it
change: ``content:references`` (the held-out dialogues' ids and references), ``content:prompts`` (ids and rendered
prompts) and, of replies generated elsewhere, ``content:replies/NAME`` (without their scores). The folders of further
sets have seals of their own; the run's has their summaries, and a check of it covers their files too. A seal protects
against accidents and casual edits, but not against someone who also rewrites ``run.json``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.files import digest_file
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, RunManifest

PATTERNS = (
    "dialogues.jsonl",
    "summary.json",
    "memory.json",
    "roofline.json",
    "latency.json",
    "fidelity_weights.json",
    "replies/*.jsonl",
    "records/*/*.jsonl",
    "sets/*/summary.json",
)
UNSEALED_ONCE = ("latency.json", "fidelity_weights.json")  # runs of earlier versions have no digest of them
REFERENCES = "content:references"
PROMPTS = "content:prompts"
REPLIES = "content:replies/"
_REPLY_FIELDS = ("id", "reply", "reply_tokens", "prompt_tokens", "finish", "nll", "reference_tokens", "error")


def sealed_files(folder: RunFolder) -> dict[str, Path]:
    """Return the measured files of a run folder by relative path, in a fixed order."""
    found = (path for pattern in PATTERNS for path in sorted(folder.root.glob(pattern)))
    return {path.relative_to(folder.root).as_posix(): path for path in found if path.is_file()}


def seal(folder: RunFolder) -> dict[str, str]:
    """Return the digests to store in ``run.json`` beside those of the inputs."""
    digests = {name: digest_file(path) for name, path in sealed_files(folder).items()}
    variants = [Path(name).stem for name in digests if name.startswith("replies/")]
    given = {
        REPLIES + variant: _replies_digest(folder, variant)
        for variant in variants
        if _generated_elsewhere(folder, variant)
    }
    return digests | given | content_digests(folder.dialogues_by_id())


def content_digests(dialogues: Mapping[str, DialogueRow]) -> dict[str, str]:
    """Return the digests of prompts and references, independent of the order of the dialogues."""
    references, prompts = _ListDigest(), _ListDigest()
    for id in sorted(dialogues):
        row = dialogues[id]
        references.add([row.id, row.reference, *row.further_references])
        prompts.add([row.id, row.prompt])
    return {REFERENCES: references.hex(), PROMPTS: prompts.hex()}


def numbers_digest(folder: RunFolder) -> str | None:
    """Return the SHA-256 of ``summary.json``, which identifies the run's numbers; None if there are none yet.

    Whatever is derived from a run carries it. Unlike the digest of ``run.json``, it stays when a run is redacted, or
    scored again with the same result.
    """
    return digest_file(folder.summary_path) if folder.summary_path.is_file() else None


def judged(folder: RunFolder, *, numbers: object, manifest: object) -> bool | None:
    """Return whether a verdict with these digests is on the run's present numbers; None if that is unknown.

    Verdicts of earlier versions state only the digest of ``run.json``, which may also have changed for other reasons.
    """
    if numbers is None:
        if manifest != digest_file(folder.manifest_path):
            return None
        numbers = folder.read_manifest().digests.get("summary.json")
    return numbers == numbers_digest(folder)


def check(folder: RunFolder, manifest: RunManifest) -> list[str]:
    """Return one sentence per difference from the seal, in the folder and those of its further sets."""
    return [*_differences(folder, manifest).values(), *_of_sets(folder, manifest, check)]


def edited(folder: RunFolder, manifest: RunManifest) -> list[str]:
    """Return what ``check`` does, and nothing of a run that has no seal: it is not finished, or of an early version."""
    return check(folder, manifest) if any(map(is_measured, manifest.digests)) else []


@dataclass(frozen=True)
class Edits:
    """One sentence per difference from the seal, apart for what all numbers are computed from and for what is computed.

    ``sources`` are the dialogues, the records and, if they were generated elsewhere, the replies; also those of further
    sets. What is ``computed`` from them is replaced when the run is scored again, which may have been killed while it
    did; that of further sets is told in their own folders.
    """

    sources: tuple[str, ...]
    computed: tuple[str, ...]


def edits(folder: RunFolder, manifest: RunManifest) -> Edits:
    """Return what in a run folder that is to be computed again is not as its seal says."""
    sources, computed = [], []
    for name, sentence in _differences(folder, manifest).items():
        if not _is_computed(folder, manifest, name):
            sources.append(sentence)
        elif not name.startswith("sets/"):
            computed.append(sentence)
    below = _of_sets(folder, manifest, lambda one, own: list(edits(one, own).sources))
    return Edits((*sources, *below), tuple(computed))


def _is_computed(folder: RunFolder, manifest: RunManifest, name: str) -> bool:
    """Return whether scoring the run again rewrites what differs in a measured file."""
    if name.startswith("replies/"):
        variant = Path(name).stem
        given = _generated_elsewhere(folder, variant)
        return not given or manifest.digests.get(REPLIES + variant) == _replies_digest(folder, variant)
    derived = name in ("summary.json", "memory.json", "roofline.json")
    return derived or (name.startswith("sets/") and (folder.root / name).is_file())


def _of_sets(
    folder: RunFolder, manifest: RunManifest, check_one: Callable[[RunFolder, RunManifest], list[str]]
) -> list[str]:
    """Return what is wrong with the folders of further sets; a missing summary is told by the run's own seal."""
    problems = []
    for name in manifest.sets[1:]:
        one = folder.set_folder(name)
        if one.manifest_path.is_file():
            problems += [f"sets/{name}/{problem}" for problem in check_one(one, one.read_manifest())]
        elif one.summary_path.is_file():
            problems.append(f"sets/{name}/run.json is missing, but existed when the run ended.")
    return problems


def _differences(folder: RunFolder, manifest: RunManifest) -> dict[str, str]:
    """Return a sentence for each measured file that is missing, was added or was changed, by its path."""
    present = sealed_files(folder)
    sealed = {name: digest for name, digest in manifest.digests.items() if _is_file(name)}
    if not sealed:
        return {"run.json": "run.json has no digests of the run's files, so edits cannot be detected."}
    missing = {name: f"{name} is missing, but existed when the run ended." for name in sealed if name not in present}
    added = {
        name: f"{name} was added after the run ended." for name in present if name not in (*sealed, *UNSEALED_ONCE)
    }
    changed = {
        name: f"{name} was changed after the run ended: its digest is not the one in run.json."
        for name, path in present.items()
        if name in sealed and digest_file(path) != sealed[name]
    }
    return missing | added | changed


def _generated_elsewhere(folder: RunFolder, variant: str) -> bool:
    """Return whether a variant's replies were not joined from records of this run."""
    return not any(folder.records_path(name, variant).is_file() for name in ("scoring", "generation"))


def _replies_digest(folder: RunFolder, variant: str) -> str:
    """Return the digest of a variant's replies without their scores, which change when a run is scored again."""
    digest = _ListDigest()
    for row in folder.each_reply(variant):
        digest.add([getattr(row, field) for field in _REPLY_FIELDS])
    return digest.hex()


def is_measured(name: str) -> bool:
    """Return whether a key of the digests names a measured file, or replies in it, rather than an input."""
    return _is_file(name) or name.startswith(REPLIES)


def _is_file(name: str) -> bool:
    return any(Path(name).match(pattern) and name.count("/") == pattern.count("/") for pattern in PATTERNS)


class _ListDigest:
    """The SHA-256 of a JSON list whose elements come one after another."""

    def __init__(self) -> None:
        self._sha256 = hashlib.sha256()
        self._before = b"["

    def add(self, value: object) -> None:
        self._sha256.update(self._before + json.dumps(value, ensure_ascii=True).encode("ascii"))
        self._before = b", "

    def hex(self) -> str:
        """Return the digest of the elements added."""
        self._sha256.update(b"[]" if self._before == b"[" else b"]")
        return self._sha256.hexdigest()
