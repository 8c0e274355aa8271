"""The dialogues that the page shows, each with its replies side by side: which are chosen, in what order, cut how.

By default the 200 on which the candidate fell furthest behind the reference variant and 50 random ones of the rest;
what was left out is said. Long texts are cut visibly so that the whole page stays small.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.store.schema import DialogueRow, ReplyRow
from reports.diff import Segment, words_unlike
from reports.escape import cut, shorten, visible
from reports.numbers import brief, is_share, plain, size
from reports.view import LIKELIHOOD, OVERLAP, RunView

TEXT_BUDGET = 1_300_000  # characters of dialogue and reply text on one page
_LADDER = (6000, 4000, 2500, 1500, 1000, 700, 500, 300, 200, 120, 60)
_LEVELS = 24  # a column with more values than this is no slice
_SCORES = 6


@dataclass(frozen=True)
class Shown:
    """How many dialogues the page shows: the worst, and a random sample of the others."""

    worst: int = 200
    random: int = 50


@dataclass(frozen=True)
class Text:
    """A text, perhaps cut; ``left_out`` is a sentence saying how much is missing, or empty."""

    segments: tuple[Segment, ...]
    left_out: str = ""


@dataclass(frozen=True)
class Flag:
    """A rule that fired, on which words."""

    index: int
    label: str
    rule: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ReplyCard:
    """One variant's reply. ``same_as`` names the variant that replied word for word the same."""

    variant: str
    index: int
    text: Text | None
    compared_with: str
    same_as: str
    missing: str
    facts: str
    scores: str
    flags: tuple[Flag, ...]


@dataclass(frozen=True)
class Card:
    """One dialogue. ``levels`` and the flags' indexes are numbers into ``DialogueCards``' lists, for the filters."""

    number: int
    id: str
    excerpt: str
    prompt: Text | None
    reference: Text | None
    columns: tuple[tuple[str, str], ...]
    replies: tuple[ReplyCard, ...]
    change: str
    sign: str
    order: float | None
    levels: tuple[int, ...]

    @property
    def flag_count(self) -> int:
        return sum(len(reply.flags) for reply in self.replies)

    @property
    def flag_keys(self) -> str:
        """Every ``variant:flag`` of the card, for the filter."""
        return " ".join(f"{reply.index}:{flag.index}" for reply in self.replies for flag in reply.flags)


@dataclass(frozen=True)
class DialogueCards:
    """The cards and what the filters offer."""

    cards: tuple[Card, ...]
    total: int
    note: str
    flags: tuple[str, ...]
    levels: tuple[tuple[str, str], ...]
    measure: str


def dialogue_cards(view: RunView, shown: Shown, *, text_budget: int = TEXT_BUDGET) -> DialogueCards:
    """Choose, order and lay out the dialogues."""
    metric = view.measured(OVERLAP) or view.measured(LIKELIHOOD)
    ranked = sorted(enumerate(view.dialogues), key=lambda pair: _rank(_oriented(view, metric, pair[1].id), pair[0]))
    worst = [row for _, row in ranked[: shown.worst]]
    rest = [row for _, row in ranked[shown.worst :]]
    chosen = worst + random.Random(f"{view.manifest.config_digest}").sample(rest, min(shown.random, len(rest)))
    flags = _flags(view, chosen)
    levels = _levels(view, chosen)
    limit = _limit(view, chosen, text_budget)
    shared = _shared_opening([row.prompt for row in chosen])
    cards = tuple(_card(view, row, k, metric, flags, levels, limit, shared) for k, row in enumerate(chosen))
    return DialogueCards(
        cards=cards,
        total=len(view.dialogues),
        note=_note(view, shown, len(worst), len(chosen), metric),
        flags=tuple(flags),
        levels=tuple(levels),
        measure=_measure(view, metric),
    )


def _rank(value: float | None, position: int) -> tuple[int, float, int]:
    """Worst first; those without a figure between losses and gains, where a person still meets them."""
    return (0, value, position) if value is not None else (0, 0.0, position)


def _oriented(view: RunView, metric: str | None, dialogue: str) -> float | None:
    """Return candidate minus reference on one dialogue, turned so that larger is better."""
    change = _raw_change(view, metric, dialogue)
    if change is None or metric is None:
        return None
    return -change if view.summary.metrics[metric].higher_is_better is False else change


def _raw_change(view: RunView, metric: str | None, dialogue: str) -> float | None:
    if metric is None or view.candidate is None or view.reference is None:
        return None
    ours = _score(view.replies.get(view.candidate, {}).get(dialogue), metric)
    theirs = _score(view.replies.get(view.reference, {}).get(dialogue), metric)
    return None if ours is None or theirs is None else ours - theirs


def _score(reply: ReplyRow | None, metric: str) -> float | None:
    return reply.scores.get(metric) if reply else None


def _measure(view: RunView, metric: str | None) -> str:
    if metric is None or view.candidate is None or view.candidate == view.reference:
        return ""
    return f"{view.label(metric)}, {view.candidate} − {view.reference}"


def _note(view: RunView, shown: Shown, worst: int, chosen: int, metric: str | None) -> str:
    total = len(view.dialogues)
    if chosen == total:
        return f"All {total} dialogues are shown."
    measure = _measure(view, metric)
    how = f"the {worst} with the lowest {measure}" if measure else f"the first {worst}"
    return (
        f"{chosen} of {total} dialogues are shown: {how}, and {chosen - worst} taken at random from the others. "
        f"The other {total - chosen} are left out here; every figure above counts them."
    )


def _flags(view: RunView, rows: Sequence[DialogueRow]) -> dict[str, int]:
    """Number the metrics whose rules fired on the shown dialogues, the commonest first."""
    counts = Counter(
        finding.metric
        for replies in view.replies.values()
        for row in rows
        if (reply := replies.get(row.id))
        for finding in reply.findings
    )
    return {view.label(name): k for k, (name, _) in enumerate(counts.most_common())}


def _levels(view: RunView, rows: Sequence[DialogueRow]) -> dict[tuple[str, str], int]:
    """Number the values of every column that has few of them."""
    values: dict[str, Counter[str]] = {}
    for row in rows:
        for column, value in row.columns.items():
            if view.redacted and column not in view.sliced_by:
                continue
            values.setdefault(column, Counter())[_column_text(value)] += 1
    found = [
        (column, level)
        for column, counts in values.items()
        if 2 <= len(counts) <= _LEVELS and all(len(level) <= 80 for level in counts)
        for level in counts
    ]
    return {key: k for k, key in enumerate(found)}


def _column_text(value: Any) -> str:
    return shorten(visible(value if isinstance(value, str) else repr(value)), 200)


def _limit(view: RunView, rows: Sequence[DialogueRow], budget: int) -> int:
    """Return how many characters of each text to show, so that all together stay within the budget."""
    lengths = [len(row.prompt) for row in rows] + [len(row.reference or "") for row in rows]
    lengths += [len(reply.reply or "") for r in view.replies.values() for row in rows if (reply := r.get(row.id))]
    return next((limit for limit in _LADDER if sum(min(limit, length) for length in lengths) <= budget), _LADDER[-1])


def _shared_opening(prompts: Sequence[str]) -> int:
    """Return how long the template's opening is that all prompts share, up to the end of a line or sentence."""
    if len(prompts) < 2:
        return 0
    first, last = min(prompts), max(prompts)  # what these two share, all between them do
    same = next((k for k, (one, other) in enumerate(zip(first, last, strict=False)) if one != other), len(first))
    shared = first[:same]
    ends = [shared.rfind(mark) + len(mark) for mark in ("\n", ". ", ": ") if mark in shared]
    return max(ends, default=0)


def _text(text: str, limit: int, other: str | None = None) -> Text:
    kept, rest = cut(text, limit)
    left_out = f"{size(rest)} of {size(len(text))} left out here" if rest else ""
    segments = words_unlike(kept, other[: limit * 2]) if other is not None else (Segment(kept),)
    return Text(segments, left_out)


def _card(
    view: RunView,
    row: DialogueRow,
    number: int,
    metric: str | None,
    flags: Mapping[str, int],
    levels: Mapping[tuple[str, str], int],
    limit: int,
    shared: int,
) -> Card:
    change = _raw_change(view, metric, row.id)
    oriented = _oriented(view, metric, row.id)
    kept = [(str(key), value) for key, value in row.columns.items() if not view.redacted or key in view.sliced_by]
    columns = tuple((key, _column_text(value)) for key, value in kept)[:12]
    unit = view.summary.metrics[metric].unit if metric else ""
    factor = 100.0 if is_share(unit) else 1.0
    return Card(
        number=number,
        id=shorten(visible(row.id), 80),
        excerpt="" if view.redacted else shorten(visible(row.prompt[shared:] or row.prompt), 110),
        prompt=None if view.redacted or not row.prompt else _text(row.prompt, limit),
        reference=None if view.redacted or row.reference is None else _text(row.reference, limit),
        columns=columns,
        replies=tuple(_reply(view, row, variant, flags, limit) for variant in view.variants if variant in view.replies),
        change=brief(change * factor) if change is not None else "",
        sign="" if oriented is None else "better" if oriented > 0 else "worse" if oriented < 0 else "neutral",
        order=oriented,
        levels=tuple(levels[key] for key in columns if key in levels),
    )


def _reply(view: RunView, row: DialogueRow, variant: str, flags: Mapping[str, int], limit: int) -> ReplyCard:
    reply = view.replies[variant].get(row.id)
    index = view.variants.index(variant)
    if reply is None or reply.reply is None:
        return ReplyCard(variant, index, None, "", "", _missing(view, reply), "", _scores(view, reply), ())
    counterpart = view.counterpart(variant)
    twin = view.replies.get(counterpart or "", {}).get(row.id)
    same = twin is not None and twin.reply == reply.reply
    other = twin.reply if twin and twin.reply is not None else row.reference
    compared = (counterpart or "") if twin and twin.reply is not None else "reference" if other is not None else ""
    text = None if view.redacted or same else _text(reply.reply, limit, other)
    found = tuple(_flag(view, finding.metric, finding.rule, finding.words, flags) for finding in reply.findings)
    return ReplyCard(
        variant,
        index,
        text,
        compared,
        counterpart or "" if same else "",
        "",
        _facts(reply),
        _scores(view, reply),
        found,
    )


def _flag(view: RunView, metric: str, rule: str, words: tuple[str, ...], flags: Mapping[str, int]) -> Flag:
    shown = () if view.redacted else tuple(shorten(visible(word), 80) for word in words[:8])
    label = view.label(metric)
    return Flag(flags.get(label, 0), label, shorten(visible(rule), 160), shown)


def _missing(view: RunView, reply: ReplyRow | None) -> str:
    if reply is None:
        return "No reply: the dialogue was not put to this variant, or was skipped."
    if reply.error:
        return "No reply: it ended in an error." if view.redacted else f"No reply: {shorten(visible(reply.error), 300)}"
    return (
        "No reply was generated." if reply.nll is None else "No reply was generated; only its likelihood was measured."
    )


def _facts(reply: ReplyRow) -> str:
    parts = [f"{reply.reply_tokens} tokens"] if reply.reply_tokens is not None else []
    if reply.finish == "length":
        parts.append("cut at the limit")
    if reply.reply is not None and not reply.reply.strip():
        parts.append("empty")
    return ", ".join(parts)


def _scores(view: RunView, reply: ReplyRow | None) -> str:
    """Return the reply's own values of the first few quality metrics."""
    if reply is None:
        return ""
    shown: list[str] = []
    for name in view.names("quality"):
        value = reply.scores.get(name)
        unit = view.summary.metrics[name].unit
        if value is not None and not is_share(unit) and len(shown) < _SCORES:
            shown.append(f"{view.label(name)} {plain(value)}")
    if reply.nll is not None and reply.reference_tokens and not any("nll" in part for part in shown):
        shown.append(f"nll {plain(reply.nll / reply.reference_tokens)}")
    return " · ".join(shown)
