"""A run folder without its texts: what people wrote and models answered goes, every number stays.

Scores, statistics, likelihoods and time stamps of each dialogue remain, so that the folder still serves as a
baseline. Prompts, references, replies, their tokens, the words that rules fired on and the data's text columns go;
columns that the run is sliced by stay.
"""

from __future__ import annotations

from pathlib import Path

from harness import integrity
from harness.store import DialogueRow, GenerationRecord, ReplyRow, RunFolder, RunManifest, read_rows, write_rows

KEPT_PASSES = ("scoring", "fidelity", "latency", "memory")


def redact(folder: RunFolder, manifest: RunManifest) -> None:
    """Take the texts out of a (copied) run folder in place and seal it anew.

    The digests of references and prompts stay those of the full texts, so that a comparison can still tell whether
    the data are the same. The report, which quotes replies, is removed.
    """
    slices = _slices(manifest)
    write_rows(folder.dialogues_path, [_dialogue(row, slices) for row in folder.dialogues()])
    for path in sorted((folder.root / "replies").glob("*.jsonl")):
        write_rows(path, [_reply(row) for row in read_rows(ReplyRow, path)])
    for path in sorted((folder.root / "records").glob("*/*.jsonl")):
        _records(path)
    folder.report_path.unlink(missing_ok=True)
    contents = {
        key: manifest.digests[key] for key in (integrity.REFERENCES, integrity.PROMPTS) if key in manifest.digests
    }
    kept = {key: digest for key, digest in manifest.digests.items() if not integrity.is_measured(key)}
    digests = {**kept, **integrity.seal(folder), **contents}
    folder.write_manifest(manifest.model_copy(update={"digests": digests, "redacted": True}))


def _slices(manifest: RunManifest) -> tuple[str, ...]:
    stats = manifest.config.get("stats")
    columns = stats.get("slices") if isinstance(stats, dict) else None
    return tuple(str(column) for column in columns) if isinstance(columns, list | tuple) else ()


def _dialogue(row: DialogueRow, slices: tuple[str, ...]) -> DialogueRow:
    columns = {
        name: value for name, value in row.columns.items() if name in slices or isinstance(value, int | float | None)
    }
    reference = None if row.reference is None else ""
    return DialogueRow(id=row.id, prompt="", reference=reference, columns=columns, conversation=row.conversation)


def _reply(row: ReplyRow) -> ReplyRow:
    known = {name: getattr(row, name) for name in ReplyRow.model_fields}
    findings = tuple(finding.model_copy(update={"words": ()}) for finding in row.findings)
    return ReplyRow(**{**known, "reply": None if row.reply is None else "", "findings": findings})


def _records(path: Path) -> None:
    if path.parent.name in KEPT_PASSES:
        return
    if path.parent.name != "generation":  # a pass of a later version: what it holds is not known, so it goes
        path.unlink()
        return
    rows = []
    for row in read_rows(GenerationRecord, path, torn_tail="ignore"):
        known = {name: getattr(row, name) for name in GenerationRecord.model_fields}
        rows.append(GenerationRecord(**{**known, "reply": None if row.reply is None else "", "tokens": ()}))
    write_rows(path, rows)
