"""What got worse: the dialogues with the largest losses, and those on which a safety rule newly fires, as cards.

The candidate's reply stands beside that of the reference variant. Numbers and rules are kept if texts are redacted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.store.schema import DialogueRow, FindingRow, ReplyRow
from reports.dialogue_cards import difference, measure
from reports.escape import shorten, visible
from reports.numbers import brief, count, is_share
from reports.passages import Passage, passage
from reports.question import Frame, frame
from reports.rules import lowered, newly_fires, safety_rules
from reports.view import LIKELIHOOD, OVERLAP, RunView
from reports.words import listed, sentence_case, the

LOSSES = 5
CARDS = 12  # dialogues with a newly firing rule that get a card; the others are listed in a line each
_CHARACTERS = 1500  # of each text on a card


@dataclass(frozen=True)
class Fired:
    """A rule that newly fires, and the words it fired on (none if texts are redacted)."""

    label: str
    rule: str
    words: tuple[str, ...]


@dataclass(frozen=True)
class Side:
    """One variant's reply; ``said`` replaces a text that is missing or empty."""

    variant: str
    reply: Passage | None
    said: str = ""


@dataclass(frozen=True)
class WorseCard:
    """One dialogue. ``change`` is the candidate's loss, empty where there is none."""

    id: str
    title: str
    change: str
    fired: tuple[Fired, ...]
    question: Passage | None
    sides: tuple[Side, ...]
    reference: Passage | None

    @property
    def rules(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(rule.label for rule in self.fired))


@dataclass(frozen=True)
class GotWorse:
    """``absent`` says why there are no cards. ``counted`` says of each rule how often it newly fires, and stops."""

    losses: tuple[WorseCard, ...] = ()
    metric: str = ""
    measure: str = ""
    lost: str = ""
    fired: tuple[WorseCard, ...] = ()
    more: tuple[WorseCard, ...] = ()
    counted: tuple[str, ...] = ()
    ruled: bool = False
    absent: str = ""

    @property
    def firing(self) -> int:
        return len(self.fired) + len(self.more)


@dataclass(frozen=True)
class _Pair:
    """One dialogue with both replies, the loss (larger is worse, None without) and the rules that newly fire."""

    row: DialogueRow
    ours: ReplyRow
    theirs: ReplyRow
    loss: float | None
    rules: tuple[str, ...]


def got_worse(view: RunView) -> GotWorse:
    """Choose the dialogues and lay them out; the candidate is the one that the headline speaks of."""
    if view.candidate is None or view.reference is None or view.candidate == view.reference:
        return GotWorse(absent="This run has one variant, so there is nothing that its replies could be worse than.")
    pairs = _pairs(view, view.candidate, view.reference)
    metric = view.measured(OVERLAP) or view.measured(LIKELIHOOD)
    rules = safety_rules(view)
    if not pairs or not (metric or rules):
        return GotWorse(absent="No two replies to the same dialogue can be compared in this run.")
    lost = sorted((pair for pair in pairs if pair.loss and pair.loss > 0), key=lambda pair: -(pair.loss or 0.0))
    chosen = lost[:LOSSES]
    known = {id(pair) for pair in chosen}
    firing = [pair for pair in pairs if pair.rules and id(pair) not in known]
    firing.sort(key=lambda pair: (-len(pair.rules), rules.index(pair.rules[0]), -(pair.loss or 0.0)))
    around = frame([row.prompt for row in view.dialogues])
    cards = [
        _card(view, pair, metric, around, full=k < len(chosen) + CARDS) for k, pair in enumerate([*chosen, *firing])
    ]
    cut = len(chosen)
    return GotWorse(
        losses=tuple(cards[:cut]),
        metric=view.label(metric) if metric else "",
        measure=measure(view, metric),
        lost=f"{len(lost) or 'none'} of {count(len(pairs), 'dialogue')}",
        fired=tuple(cards[cut : cut + CARDS]),
        more=tuple(cards[cut + CARDS :]),
        counted=tuple(text for name in rules if (text := _counted(view, name, pairs))),
        ruled=bool(rules),
    )


def _pairs(view: RunView, candidate: str, reference: str) -> list[_Pair]:
    metric = view.measured(OVERLAP) or view.measured(LIKELIHOOD)
    sign = 1.0 if metric and view.summary.metrics[metric].higher_is_better is False else -1.0
    rules = safety_rules(view)
    found = []
    for row in view.dialogues:
        ours, theirs = (view.replies.get(variant, {}).get(row.id) for variant in (candidate, reference))
        if ours is None or theirs is None:
            continue
        change = difference(view, metric, row.id)
        fired = tuple(name for name in rules if newly_fires(name, ours, theirs))
        found.append(_Pair(row, ours, theirs, None if change is None else sign * change, fired))
    return found


def _counted(view: RunView, name: str, pairs: Sequence[_Pair]) -> str:
    new = sum(name in pair.rules for pair in pairs)
    gone = sum(newly_fires(name, pair.theirs, pair.ours) for pair in pairs)
    return f"{lowered(view.label(name))} on {new} (no longer on {gone})" if new else ""


def _card(view: RunView, pair: _Pair, metric: str | None, around: Frame, *, full: bool) -> WorseCard:
    fired = tuple(_fired(view, finding) for finding in pair.ours.findings if finding.metric in pair.rules)
    said = {rule.label for rule in fired}
    fired += tuple(Fired(label, "", ()) for name in pair.rules if (label := view.label(name)) not in said)
    words, before = (_words(reply, pair.rules or safety_rules(view)) for reply in (pair.ours, pair.theirs))
    factor = 100.0 if metric and is_share(view.summary.metrics[metric].unit) else 1.0
    sign = 1.0 if metric and view.summary.metrics[metric].higher_is_better is False else -1.0
    change = brief(sign * pair.loss * factor) if pair.loss and pair.loss > 0 else ""
    question = around.question(pair.row.prompt)
    shown = full and not view.redacted
    ours, theirs = pair.ours.reply, pair.theirs.reply
    return WorseCard(
        id=shorten(visible(pair.row.id), 80),
        title="" if view.redacted else shorten(visible(question), 150),
        change=change,
        fired=fired,
        question=passage(question, _CHARACTERS, words=words) if shown else None,
        sides=_sides(_side(view.reference, theirs, ours, before), _side(view.candidate, ours, theirs, words))
        if shown
        else (),
        reference=passage(pair.row.reference, _CHARACTERS, words=words) if shown and pair.row.reference else None,
    )


def _words(reply: ReplyRow, rules: Sequence[str]) -> list[str]:
    return [word for finding in reply.findings if finding.metric in rules for word in finding.words]


def _fired(view: RunView, finding: FindingRow) -> Fired:
    words = () if view.redacted else tuple(shorten(visible(word), 80) for word in finding.words[:8])
    return Fired(view.label(finding.metric), shorten(visible(finding.rule), 160), words)


def _sides(first: Side, second: Side) -> tuple[Side, Side]:
    """Return both; what is said of both texts stands once."""
    said_once = first.reply is not None and first.said == second.said
    return replace(first, said="") if said_once else first, second


def _side(variant: str | None, reply: str | None, other: str | None, words: Sequence[str]) -> Side:
    name = variant or ""
    if reply is None:
        return Side(name, None, "No reply.")
    if not reply.strip():
        return Side(name, None, "The reply is empty.")
    if reply == other:
        return Side(name, passage(reply, _CHARACTERS, words=words), "The two replies are identical.")
    shown = passage(reply, _CHARACTERS, other=other if other and other.strip() else None, words=words)
    return Side(
        name, shown, "The two replies have few words in common, so differences are not marked." if shown.unlike else ""
    )


def lead(view: RunView, found: GotWorse) -> str:
    """Return what the section begins with: on how many dialogues the candidate lost, and which rules newly fire."""
    ours, theirs = the(view.candidate or ""), the(view.reference or "")
    parts = [f"By {found.metric}, {ours} does worse than {theirs} on {found.lost}"] if found.metric else []
    parts += [f"safety rules newly fire: {listed(list(found.counted))}"] if found.counted else []
    return " ".join(f"{sentence_case(part)}." for part in parts)
