"""From records to replies: the passes' records, joined per variant and scored. Needs no model and no torch.

This can be repeated at any time, with other metrics, from the files of a finished run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.dialogues.reply_text import REASONING, Reasoning, reply_text
from harness.files import write_rows
from harness.machine import usable_cores
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import Item, Scores
from harness.metrics.workers import Known, score
from harness.results.several_references import How, combine
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, FindingRow, GenerationRecord, Record, ReplyRow, ScoringRecord

if TYPE_CHECKING:
    from harness.progress import Progress

UNFINISHED = "end inside a reasoning block"

AnyRecord = TypeVar("AnyRecord", bound=Record)
Accept = Callable[[str, str, Record], bool]
TASK = "metrics"


def score_replies(
    folder: RunFolder,
    metrics: MetricSet,
    progress: Progress | None = None,
    *,
    variants: Sequence[str] | None = None,
    accept: Accept | None = None,
    how: How = "best",
    workers: int | None = None,
    reasoning: Reasoning = REASONING,
    known: Known | None = None,
) -> dict[str, list[ReplyRow]]:
    """Write ``replies/VARIANT.jsonl`` for each variant, with scores, statistics and findings; return the rows.

    Judged is what a patient would see: each reply without the blocks that ``reasoning`` marks.

    ``variants`` defaults to those of ``run.json``. ``accept(pass, variant, record)`` returns whether a record belongs
    to this run (default: all do); of two for the same dialogue, the later one counts. A variant without records (its
    replies were generated outside the harness) keeps its replies and gets new scores. ``how`` combines the scores
    against several references of one dialogue. ``workers`` defaults to the number of cores, at most four, if there are
    thousands of replies. ``known`` are scores that were made before. Rows are in run order, one for each dialogue with
    a reply, a likelihood, an error or a reason why it was skipped.
    """
    names = list(variants) if variants is not None else [str(v["name"]) for v in folder.read_manifest().variants]
    dialogues = folder.dialogues()
    rows = {name: _join(folder, name, dialogues, accept, reasoning) for name in names}
    # Replies to one dialogue are adjacent, so that metrics parse each of its references only once.
    places = [
        (name, dialogue, reference)
        for dialogue in dialogues
        for reference in _references(dialogue)
        for name in names
        if dialogue.id in rows[name]
    ]
    items = [_item(name, dialogue, rows[name][dialogue.id], text) for name, dialogue, text in places]
    if progress:
        progress.start(TASK, len(items), "replies")
    advance = (lambda done: progress.advance(TASK, done)) if progress else None
    scores = score(metrics, items, workers=workers or min(usable_cores(), 4), advance=advance, known=known)
    if progress:
        progress.finish(TASK)
        for note in metrics.notes:
            progress.note(note)
    against: dict[tuple[str, str], list[Scores]] = {}
    for (name, dialogue, _), each in zip(places, scores, strict=True):
        against.setdefault((name, dialogue.id), []).append(each)
    for (name, id), several in against.items():
        found = combine(several, metrics.specs, how)
        update = {
            "scores": dict(found.values),
            "statistics": dict(found.statistics),
            "findings": tuple(FindingRow(metric=f.metric, rule=f.rule, words=f.words) for f in found.findings),
            "undefined": dict(found.undefined),
        }
        rows[name][id] = rows[name][id].model_copy(update=update)
    joined = {name: [rows[name][d.id] for d in dialogues if d.id in rows[name]] for name in names}
    for name, replies in joined.items():
        write_rows(folder.replies_path(name), replies)
    return joined


def items_of(folder: RunFolder, variant: str, reasoning: Reasoning) -> list[Item]:
    """Return what ``score_replies`` scores of one variant."""
    dialogues = folder.dialogues()
    rows = _join(folder, variant, dialogues, None, reasoning)
    return [
        _item(variant, dialogue, rows[dialogue.id], reference)
        for dialogue in dialogues
        if dialogue.id in rows
        for reference in _references(dialogue)
    ]


def _references(dialogue: DialogueRow) -> tuple[str, ...]:
    return (dialogue.reference or "", *dialogue.further_references)


def unfinished_warnings(replies: Mapping[str, Sequence[ReplyRow]]) -> list[str]:
    """Return a sentence for each variant with replies that end before their reasoning does."""
    return [
        f"{count} of {len(rows)} replies of '{name}' {UNFINISHED}; only what comes before it was judged."
        for name, rows in replies.items()
        if (count := sum(row.unfinished for row in rows))
    ]


def _join(
    folder: RunFolder,
    variant: str,
    dialogues: Sequence[DialogueRow],
    accept: Accept | None,
    reasoning: Reasoning,
) -> dict[str, ReplyRow]:
    """Return each dialogue's reply by its id, without scores."""
    scoring = _records(folder, ScoringRecord, "scoring", variant, accept)
    generation = _records(folder, GenerationRecord, "generation", variant, accept)
    if not scoring and not generation:
        found = {row.id: row for row in folder.replies(variant)}
        raw: dict[str, tuple[str | None, str | None]] = {
            id: (row.raw if row.raw is not None else row.reply, None) for id, row in found.items()
        }
    else:
        ids = (dialogue.id for dialogue in dialogues if dialogue.id in scoring or dialogue.id in generation)
        found = {id: _row(id, scoring.get(id), generation.get(id)) for id in ids}
        raw = {id: (record.reply, record.marked) for id, record in generation.items()}
    prompts = {dialogue.id: dialogue.prompt for dialogue in dialogues}
    return {id: _as_seen(row, *raw.get(id, (None, None)), reasoning, prompts.get(id, "")) for id, row in found.items()}


def _as_seen(row: ReplyRow, raw: str | None, marked: str | None, reasoning: Reasoning, prompt: str) -> ReplyRow:
    """Return the row with the reply that a patient would see, found in the raw text or in that with special tokens."""
    if raw is None:
        return row
    found = reply_text(raw, reasoning, prompt)
    if marked is not None and (in_marked := reply_text(marked, reasoning, prompt)).reasoned:
        raw, found = marked, in_marked
    changes = {"reply": found.seen, "raw": raw if raw != found.seen else None, "unfinished": found.unfinished}
    return row.model_copy(update=changes)


def _records(
    folder: RunFolder, model: type[AnyRecord], pass_name: str, variant: str, accept: Accept | None
) -> dict[str, AnyRecord]:
    records = folder.records(model, pass_name, variant)
    return {record.id: record for record in records if accept is None or accept(pass_name, variant, record)}


def _row(id: str, scored: ScoringRecord | None, generated: GenerationRecord | None) -> ReplyRow:
    problems = [record.error or record.skipped for record in (generated, scored) if record is not None]
    counts = [record.prompt_tokens for record in (generated, scored) if record and record.prompt_tokens is not None]
    return ReplyRow(
        id=id,
        prompt_tokens=counts[0] if counts else None,
        reply=generated.reply if generated else None,
        reply_tokens=generated.reply_tokens if generated else None,
        finish=generated.finish if generated else None,
        nll=scored.nll if scored else None,
        reference_tokens=scored.reference_tokens if scored else None,
        error=next((problem for problem in problems if problem), None),
    )


def _item(system: str, dialogue: DialogueRow, row: ReplyRow, reference: str) -> Item:
    return Item(
        id=dialogue.id,
        prompt=dialogue.prompt,
        reference=reference,
        reply=row.reply,
        columns=dialogue.columns,
        reply_tokens=row.reply_tokens,
        finish="length" if row.unfinished and row.finish is not None else row.finish,
        nll=row.nll,
        reference_tokens=row.reference_tokens,
        system=system,
    )
