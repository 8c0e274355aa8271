"""From records to replies: the passes' records, joined per variant and scored. Needs no model and no torch.

This can be repeated at any time, with other metrics, from the files of a finished run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import chain
from typing import TYPE_CHECKING, TypeVar, overload

import numpy as np

from harness.dialogues.reply_text import REASONING, Reasoning, reply_text
from harness.files import replacing, row_line
from harness.machine import usable_cores
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import Item, Scores
from harness.metrics.workers import Known, score
from harness.results.several_references import How, combine
from harness.store.folder import RunFolder
from harness.store.indexed import IndexedRows, RowSequence
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
) -> dict[str, ScoredReplies]:
    """Write ``replies/VARIANT.jsonl`` for each variant, with scores, statistics and findings; return the rows.

    Judged is what a patient would see: each reply without the blocks that ``reasoning`` marks.

    ``variants`` defaults to those of ``run.json``. ``accept(pass, variant, record)`` returns whether a record belongs
    to this run (default: all do); of two for the same dialogue, the later one counts. A variant without records (its
    replies were generated outside the harness) keeps its replies and gets new scores. ``how`` combines the scores
    against several references of one dialogue. ``workers`` defaults to the number of cores, at most four, if there are
    thousands of replies. ``known`` are scores that were made before. Rows are in run order, one for each dialogue with
    a reply, a likelihood, an error or a reason why it was skipped. They are read, scored and written one after another,
    so that memory does not grow with their texts.
    """
    names = list(variants) if variants is not None else [str(v["name"]) for v in folder.read_manifest().variants]
    dialogues = folder.dialogues_by_id()
    items = _Items(dialogues, {name: _Joined(folder, name, accept, reasoning) for name in names})
    if progress:
        progress.start(TASK, len(items), "replies")
    advance = (lambda done: progress.advance(TASK, done)) if progress else None
    unfinished: Counter[str] = Counter()
    with ExitStack() as files:
        out = {name: files.enter_context(replacing(folder.replies_path(name))) for name in names}
        scores = score(metrics, items, workers=workers or min(usable_cores(), 4), advance=advance, known=known)
        for dialogue in dialogues.values():
            found = items.replies(dialogue)
            several = [[next(scores) for _ in found] for _ in _references(dialogue)]
            for place, (name, row) in enumerate(found.items()):
                unfinished[name] += row.unfinished
                against = [of_all[place] for of_all in several]
                out[name].write(row_line(_scored(row, combine(against, metrics.specs, how))))
    if progress:
        progress.finish(TASK)
        for note in metrics.notes:
            progress.note(note)
    return {name: ScoredReplies(folder.replies_by_id(name), unfinished[name]) for name in names}


class ScoredReplies(RowSequence[ReplyRow]):
    """A variant's rows in run order; ``unfinished`` of them end inside a reasoning block."""

    def __init__(self, rows: IndexedRows[ReplyRow], unfinished: int) -> None:
        super().__init__(rows)
        self.unfinished = unfinished


def _scored(row: ReplyRow, found: Scores) -> ReplyRow:
    update = {
        "scores": dict(found.values),
        "statistics": dict(found.statistics),
        "findings": tuple(FindingRow(metric=f.metric, rule=f.rule, words=f.words) for f in found.findings),
        "undefined": dict(found.undefined),
    }
    return row.model_copy(update=update)


class _Items(Sequence[Item]):
    """The items to score, made when they are asked for.

    Those of one dialogue are adjacent, so that metrics parse each of its references only once.
    """

    def __init__(self, dialogues: Mapping[str, DialogueRow], rows: Mapping[str, _Joined]) -> None:
        self._dialogues = dialogues
        self._rows = rows
        self._ids = tuple(dialogues)
        sizes = (len(_references(one)) * sum(one.id in of for of in rows.values()) for one in dialogues.values())
        self._ends = np.cumsum(np.fromiter(sizes, dtype=np.int64, count=len(self._ids)))

    def replies(self, dialogue: DialogueRow) -> dict[str, ReplyRow]:
        """Return the unscored replies to a dialogue by variant."""
        return {name: row for name, of in self._rows.items() if (row := of.get(dialogue)) is not None}

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __iter__(self) -> Iterator[Item]:
        return chain.from_iterable(map(self._of, self._dialogues.values()))

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> list[Item]: ...
    def __getitem__(self, place: int | slice) -> Item | list[Item]:
        if isinstance(place, slice):
            return [self[one] for one in range(*place.indices(len(self)))]
        place = range(len(self))[place]
        number = int(np.searchsorted(self._ends, place, side="right"))
        return self._of(self._dialogues[self._ids[number]])[place - int(self._ends[number])]

    def _of(self, dialogue: DialogueRow) -> list[Item]:
        found = self.replies(dialogue)
        return [_item(name, dialogue, row, text) for text in _references(dialogue) for name, row in found.items()]


def items_of(folder: RunFolder, variant: str, reasoning: Reasoning) -> Sequence[Item]:
    """Return what ``score_replies`` scores of one variant."""
    return _Items(folder.dialogues_by_id(), {variant: _Joined(folder, variant, None, reasoning)})


def _references(dialogue: DialogueRow) -> tuple[str, ...]:
    return (dialogue.reference or "", *dialogue.further_references)


def unfinished_warnings(replies: Mapping[str, ScoredReplies]) -> list[str]:
    """Return a sentence for each variant with replies that end before their reasoning does."""
    return [
        f"{rows.unfinished} of {len(rows)} replies of '{name}' {UNFINISHED}; only what comes before it was judged."
        for name, rows in replies.items()
        if rows.unfinished
    ]


class _Joined:
    """A variant's replies without scores, joined from its records, or its own if it has none of this run."""

    def __init__(self, folder: RunFolder, variant: str, accept: Accept | None, reasoning: Reasoning) -> None:
        self._reasoning = reasoning
        self._scoring = _records(folder, ScoringRecord, "scoring", variant, accept)
        self._generation = _records(folder, GenerationRecord, "generation", variant, accept)
        self._given = folder.replies_by_id(variant) if not self._scoring and not self._generation else None

    def __contains__(self, id: str) -> bool:
        return id in self._given if self._given is not None else id in self._scoring or id in self._generation

    def get(self, dialogue: DialogueRow) -> ReplyRow | None:
        """Return the reply to a dialogue, or None if it has none."""
        if dialogue.id not in self:
            return None
        if self._given is not None:
            row = self._given[dialogue.id]
            raw, marked = row.raw if row.raw is not None else row.reply, None
        else:
            generated = self._generation.get(dialogue.id)
            row = _row(dialogue.id, self._scoring.get(dialogue.id), generated)
            raw, marked = (generated.reply, generated.marked) if generated else (None, None)
        return _as_seen(row, raw, marked, self._reasoning, dialogue.prompt)


def _as_seen(row: ReplyRow, raw: str | None, marked: str | None, reasoning: Reasoning, prompt: str) -> ReplyRow:
    """Return the row with the reply that a patient would see, found in the raw text or in that with special tokens."""
    if raw is None:
        return row
    found = reply_text(raw, reasoning, prompt)
    if marked is not None and (in_marked := reply_text(marked, reasoning, prompt)).reasoned:
        raw, found = marked, in_marked
    seen = found.seen, raw if raw != found.seen else None, found.unfinished
    if seen == (row.reply, row.raw, row.unfinished):
        return row  # copying takes as long as reading
    return row.model_copy(update=dict(zip(("reply", "raw", "unfinished"), seen, strict=True)))


def _records(
    folder: RunFolder, model: type[AnyRecord], pass_name: str, variant: str, accept: Accept | None
) -> IndexedRows[AnyRecord]:
    wanted = None if accept is None else (lambda record: accept(pass_name, variant, record))
    return folder.records_by_id(model, pass_name, variant, wanted)


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
