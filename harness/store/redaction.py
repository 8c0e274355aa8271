"""Removes the text from a run folder and keeps every number.

Scores, statistics, likelihoods and timestamps of each dialogue are kept, so that the folder still works as a baseline.
Prompts, references, replies, the words that rules fired on and the data's text columns are removed; columns that the
run is sliced by are kept, and so is each prompt's length bucket. Generated replies and tokens become keyed hashes,
which are equal for equal prefixes; the key is random and discarded.
"""

from __future__ import annotations

import hashlib
import secrets
from pathlib import Path

from harness.files import read_rows, write_rows
from harness.stats.slices import length_bucket
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, Record, ReplyRow, RunManifest, record_of

LENGTH_BUCKET = "length_bucket"


def redact(folder: RunFolder, manifest: RunManifest) -> None:
    """Remove the text from a (copied) run folder in place and seal it again.

    The digests of references and prompts stay those of the full text, so that a comparison can still check that the
    data are the same. The report, which quotes replies, is removed.
    """
    slices = _slices(manifest)
    write_rows(folder.dialogues_path, (_dialogue(row, slices) for row in folder.each_dialogue()))
    for path in sorted((folder.root / "replies").glob("*.jsonl")):
        write_rows(path, (_reply(row) for row in read_rows(ReplyRow, path)))
    key = secrets.token_bytes(32)
    for path in sorted((folder.root / "records").glob("*/*.jsonl")):
        _records(path, key)
    folder.report_path.unlink(missing_ok=True)
    contents = {key: manifest.digests[key] for key in (seals.REFERENCES, seals.PROMPTS) if key in manifest.digests}
    kept = {key: digest for key, digest in manifest.digests.items() if not seals.is_measured(key)}
    digests = {**kept, **seals.seal(folder), **contents}
    folder.write_manifest(manifest.model_copy(update={"digests": digests, "redacted": True}))


def _slices(manifest: RunManifest) -> tuple[str, ...]:
    stats = manifest.config.get("stats")
    columns = stats.get("slices") if isinstance(stats, dict) else None
    return tuple(str(column) for column in columns) if isinstance(columns, list | tuple) else ()


def _dialogue(row: DialogueRow, slices: tuple[str, ...]) -> DialogueRow:
    columns = {
        name: value for name, value in row.columns.items() if name in slices or isinstance(value, int | float | None)
    }
    columns.setdefault(LENGTH_BUCKET, length_bucket(len(row.prompt.split())))
    reference = None if row.reference is None else ""
    return DialogueRow(id=row.id, prompt="", reference=reference, columns=columns, conversation=row.conversation)


def _reply(row: ReplyRow) -> ReplyRow:
    known = {name: getattr(row, name) for name in ReplyRow.model_fields}
    findings = tuple(finding.model_copy(update={"words": ()}) for finding in row.findings)
    return ReplyRow(**{**known, "reply": None if row.reply is None else "", "raw": None, "findings": findings})


def _records(path: Path, key: bytes) -> None:
    kind = record_of(path.parent.name)
    if kind is None:  # a pass of a later version may contain text, so it is removed
        path.unlink()
    elif kind.texts or kind.token_ids:
        write_rows(path, [_record(row, key) for row in read_rows(kind, path, torn_tail="ignore")])


def _record(row: Record, key: bytes) -> Record:
    known = {name: getattr(row, name) for name in type(row).model_fields}
    for name in row.texts:
        text = known[name]
        known[name] = None if text is None else _hashed(text.encode("utf-8", "surrogatepass"), key).hex()
    for name in row.token_ids:
        known[name] = _prefix_hashes(known[name], key)
    return type(row)(**known)


def _hashed(text: bytes, key: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=6, key=key).digest()


def _prefix_hashes(tokens: tuple[int, ...], key: bytes) -> tuple[int, ...]:
    """Return, for each token, a hash of the tokens up to it: two replies still differ from the same position on."""
    hashes, before = [], b""
    for token in tokens:
        before = _hashed(before + str(token).encode("ascii") + b",", key)
        hashes.append(int.from_bytes(before, "big"))
    return tuple(hashes)
