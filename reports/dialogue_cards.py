"""The dialogues that the page shows, each with its replies side by side: selection, order and truncation.

By default these are the 200 on which the candidate did worst relative to the reference variant and a random 50 of the
rest; the page says what it omits. A dialogue that has no difference, because one of the two has no value, is not among
the worst. Long texts are visibly truncated to keep the page small.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from harness.store.schema import DialogueRow, ReplyRow
from reports.diff import Segment, words_unlike
from reports.escape import cut, shorten, visible
from reports.numbers import brief, is_share, plain, size
from reports.question import Frame
from reports.view import LIKELIHOOD, RunView

TEXT_BUDGET = 690_000  # characters of dialogue and reply text on one page
_LADDER = (6000, 4000, 2500, 1500, 1000, 700, 500, 300, 200, 120, 60)
_LEVELS = 24  # a column with more values than this gets no filter
_SCORES = 6


@dataclass(frozen=True)
class Shown:
    """How many dialogues the page shows: the worst, and a random sample of the others."""

    worst: int = 200
    random: int = 50


@dataclass(frozen=True)
class Text:
    """A text, possibly truncated; ``left_out`` says how much is missing, or is empty."""

    segments: tuple[Segment, ...]
    left_out: str = ""


@dataclass(frozen=True)
class Flag:
    """A rule that fired, and the words it fired on."""

    index: int
    label: str
    rule: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class ReplyCard:
    """One variant's reply. ``same_as`` names the variant with an identical reply.

    ``raw`` is what the variant wrote, where a patient would see less of it. ``not_scored`` says why the likelihood of
    the reference is missing, although there is a reply.
    """

    variant: str
    index: int
    text: Text | None
    compared_with: str = ""
    same_as: str = ""
    missing: str = ""
    raw: Text | None = None
    not_scored: str = ""
    facts: str = ""
    scores: str = ""
    flags: tuple[Flag, ...] = ()


@dataclass(frozen=True)
class Card:
    """One dialogue. ``levels`` and the flags' indexes refer to the lists of ``DialogueCards``, for the filters."""

    number: int
    id: str
    excerpt: str
    prompt: Text | None
    reference: Text | None
    further_references: tuple[Text, ...]
    columns: tuple[tuple[str, str], ...]
    replies: tuple[ReplyCard, ...]
    levels: tuple[int, ...]
    change: str = ""
    sign: str = ""
    order: float | None = None

    @property
    def flag_count(self) -> int:
        return sum(len(reply.flags) for reply in self.replies)

    @property
    def flag_keys(self) -> str:
        """Every ``variant:flag`` of the card, for the filter."""
        return " ".join(f"{reply.index}:{flag.index}" for reply in self.replies for flag in reply.flags)


@dataclass(frozen=True)
class DialogueCards:
    """The cards and the options of the filters."""

    cards: tuple[Card, ...]
    total: int
    note: str
    flags: tuple[str, ...]
    levels: tuple[tuple[str, str], ...]
    measure: str
    around: Frame  # the template's words, which stand on no card


def dialogue_cards(view: RunView, shown: Shown, *, text_budget: int = TEXT_BUDGET) -> DialogueCards:
    """Choose, order and lay out the dialogues."""
    metric, ids = view.judged_by, view.dialogues.ids
    changes = {pair.id: pair.change for pair in view.pairs if pair.change is not None}
    better = -1.0 if metric and view.summary.metrics[metric].higher_is_better is False else 1.0
    places = range(len(ids))
    compared = [place for place in places if ids[place] in changes] or list(places)
    worst = sorted(compared, key=lambda place: better * changes.get(ids[place], 0.0))[: shown.worst]
    taken = set(worst)
    rest = [place for place in places if place not in taken]
    sample = random.Random(f"{view.manifest.config_digest}").sample(rest, min(shown.random, len(rest)))
    chosen = [view.dialogues[place] for place in (*worst, *sample)]
    flags = _flags(view, chosen)
    levels = _levels(view, chosen)
    limit = _limit(view, chosen, text_budget)
    around = view.frame
    factor = 100.0 if metric and is_share(view.summary.metrics[metric].unit) else 1.0
    cards = []
    for k, row in enumerate(chosen):
        change = changes.get(row.id)
        card = _card(view, row, k, flags, levels, limit, around)
        if change is not None:
            order = better * change
            sign = "better" if order > 0 else "worse" if order < 0 else "neutral"
            card = replace(card, change=brief(change * factor), sign=sign, order=order)
        cards.append(card)
    return DialogueCards(
        cards=tuple(cards),
        total=len(view.dialogues),
        note=_note(view, shown, len(worst), len(chosen), metric),
        flags=tuple(flags),
        levels=tuple(levels),
        measure=measure(view, metric),
        around=Frame() if view.redacted else around,
    )


def measure(view: RunView, metric: str | None) -> str:
    """Return which difference the cards show, e.g. ``ROUGE-L, adapter − base``."""
    if metric is None or view.candidate is None or view.candidate == view.reference:
        return ""
    return f"{view.label(metric)}, {view.candidate} − {view.reference}"


def _note(view: RunView, shown: Shown, worst: int, chosen: int, metric: str | None) -> str:
    total = len(view.dialogues)
    if chosen == total:
        return "The one dialogue is shown." if total == 1 else f"All {plain(float(total), 0)} dialogues are shown."
    named = measure(view, metric)
    how = f"the {worst} with the lowest {named}" if named else f"the first {worst}"
    others = ", except those without a reply" if view.missing else ""
    return (
        f"{chosen} of {plain(float(total), 0)} dialogues are shown: {how}, and {chosen - worst} chosen at random from "
        "the others. "
        f"The other {plain(float(total - chosen), 0)} are not shown here; every figure above includes them{others}."
    )


def _flags(view: RunView, rows: Sequence[DialogueRow]) -> dict[str, int]:
    """Number the metrics whose rules fired on the shown dialogues, most frequent first."""
    counts = Counter(
        finding.metric
        for replies in view.replies.values()
        for row in rows
        if (reply := replies.get(row.id))
        for finding in reply.findings
    )
    return {view.label(name): k for k, (name, _) in enumerate(counts.most_common())}


def _levels(view: RunView, rows: Sequence[DialogueRow]) -> dict[tuple[str, str], int]:
    """Number the values of every column that has at most ``_LEVELS``."""
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


def _column_text(value: object) -> str:
    return shorten(visible(value if isinstance(value, str) else repr(value)), 200)


def _limit(view: RunView, rows: Sequence[DialogueRow], budget: int) -> int:
    """Return how many characters of each text to show so that all of them stay within the budget."""
    texts = [text for row in rows for text in (row.prompt, row.reference, *row.further_references)]
    shown = [reply for replies in view.replies.values() for row in rows if (reply := replies.get(row.id))]
    texts += [text for reply in shown for text in (reply.reply, reply.raw)]
    lengths = [len(text or "") for text in texts]
    return next((limit for limit in _LADDER if sum(min(limit, length) for length in lengths) <= budget), _LADDER[-1])


def _text(text: str, limit: int, other: str | None = None) -> Text:
    kept, rest = cut(text, limit)
    left_out = f"{size(rest)} of {size(len(text))} omitted here" if rest else ""
    segments = words_unlike(kept, other[: limit * 2]) if other is not None else (Segment(kept),)
    return Text(segments, left_out)


def _card(
    view: RunView,
    row: DialogueRow,
    number: int,
    flags: Mapping[str, int],
    levels: Mapping[tuple[str, str], int],
    limit: int,
    around: Frame,
) -> Card:
    kept = [(str(key), value) for key, value in row.columns.items() if not view.redacted or key in view.sliced_by]
    columns = tuple((key, _column_text(value)) for key, value in kept)[:12]
    question = around.question(row.prompt)
    return Card(
        number=number,
        id=shorten(visible(row.id), 80),
        excerpt="" if view.redacted else shorten(visible(question), 110),
        prompt=None if view.redacted or not row.prompt else _text(question, limit),
        reference=None if view.redacted or row.reference is None else _text(row.reference, limit),
        further_references=() if view.redacted else tuple(_text(text, limit) for text in row.further_references),
        columns=columns,
        replies=tuple(_reply(view, row, variant, flags, limit) for variant in view.variants if variant in view.replies),
        levels=tuple(levels[key] for key in columns if key in levels),
    )


def _reply(view: RunView, row: DialogueRow, variant: str, flags: Mapping[str, int], limit: int) -> ReplyCard:
    reply = view.replies[variant].get(row.id)
    index = view.variants.index(variant)
    if reply is None or reply.reply is None:
        missing = _missing(view, reply)
        return ReplyCard(variant, index, None, missing=missing, scores=_scores(view, reply))
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
        compared_with=compared,
        same_as=counterpart or "" if same else "",
        raw=None if view.redacted or reply.raw is None else _text(reply.raw, limit),
        not_scored=_not_scored(view, reply),
        facts=_facts(reply),
        scores=_scores(view, reply),
        flags=found,
    )


def _flag(view: RunView, metric: str, rule: str, words: tuple[str, ...], flags: Mapping[str, int]) -> Flag:
    shown = () if view.redacted else tuple(shorten(visible(word), 80) for word in words[:8])
    label = view.label(metric)
    return Flag(flags.get(label, 0), label, shorten(visible(rule), 160), shown)


def _missing(view: RunView, reply: ReplyRow | None) -> str:
    if reply is None:
        return "No reply: the dialogue was not given to this variant, or was skipped."
    if reply.error:
        return "No reply: there was an error." if view.redacted else f"No reply: {shorten(visible(reply.error), 300)}"
    return (
        "No reply was generated." if reply.nll is None else "No reply was generated; only its likelihood was measured."
    )


def _not_scored(view: RunView, reply: ReplyRow) -> str:
    if reply.error is None:
        return ""
    return "Its reference was not scored" + ("." if view.redacted else f": {shorten(visible(reply.error), 300)}")


def _facts(reply: ReplyRow) -> str:
    parts = [f"{reply.reply_tokens} tokens"] if reply.reply_tokens is not None else []
    if reply.finish == "length":
        parts.append("truncated at the limit")
    if reply.unfinished:
        parts.append("ends inside a reasoning block")
    if reply.reply is not None and not reply.reply.strip():
        parts.append("empty")
    return ", ".join(parts)


def _scores(view: RunView, reply: ReplyRow | None) -> str:
    """Return the reply's own values of the first few quality metrics, and its likelihood."""
    if reply is None:
        return ""
    names = [name for name in view.names("quality") if not is_share(view.summary.metrics[name].unit)]
    known = [name for name in names if reply.scores.get(name) is not None]
    shown = [*known[:_SCORES], *(name for name in known[_SCORES:] if name in LIKELIHOOD)]
    return " · ".join(f"{view.label(name)} {plain(reply.scores[name])}" for name in shown)
