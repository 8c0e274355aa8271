"""What got worse: the dialogues with the largest losses, and those on which a safety rule newly fires, as cards.

The candidate's reply stands beside that of the reference variant. Numbers and rules are kept if texts are redacted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from harness.store.schema import FindingRow, ReplyRow
from reports.dialogue_cards import measure
from reports.escape import shorten, visible
from reports.numbers import brief, count, is_share
from reports.pairs import Pair
from reports.passages import Passage, passage
from reports.rules import lowered, safety_rules
from reports.view import RunView
from reports.words import listed, sentence_case, the

LOSSES = 5
CARDS = 12  # dialogues with a newly firing rule that get a card; of the others, LISTED get a line each
LISTED = 200
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
    unlisted: int = 0
    counted: tuple[str, ...] = ()
    ruled: bool = False
    absent: str = ""

    @property
    def firing(self) -> int:
        return len(self.fired) + len(self.more) + self.unlisted


def got_worse(view: RunView) -> GotWorse:
    """Choose the dialogues and lay them out; the candidate is the one that the headline speaks of."""
    if view.candidate is None or view.reference is None or view.candidate == view.reference:
        return GotWorse(absent="This run has one variant, so there is nothing that its replies could be worse than.")
    pairs, metric, rules = view.pairs, view.judged_by, safety_rules(view)
    if not pairs or not (metric or rules):
        return GotWorse(absent="No two replies to the same dialogue can be compared in this run.")
    lost = sorted((pair for pair in pairs if _loss(view, pair) > 0), key=lambda pair: -_loss(view, pair))
    chosen = lost[:LOSSES]
    known = {pair.place for pair in chosen}
    firing = [pair for pair in pairs if pair.fires and pair.place not in known]
    firing.sort(key=lambda pair: (-len(pair.fires), rules.index(pair.fires[0]), -_loss(view, pair)))
    shown = [*chosen, *firing[: CARDS + LISTED]]
    cards = [_card(view, pair, metric, full=k < len(chosen) + CARDS) for k, pair in enumerate(shown)]
    cut = len(chosen)
    return GotWorse(
        losses=tuple(cards[:cut]),
        metric=view.label(metric) if metric else "",
        measure=measure(view, metric),
        lost=f"{f'{len(lost):,}' if lost else 'none'} of {count(len(pairs), 'dialogue')}",
        fired=tuple(cards[cut : cut + CARDS]),
        more=tuple(cards[cut + CARDS :]),
        unlisted=max(0, len(firing) - CARDS - LISTED),
        counted=tuple(text for name in rules if (text := _counted(view, name, pairs))),
        ruled=bool(rules),
    )


def _loss(view: RunView, pair: Pair) -> float:
    """Return by how much the candidate is worse on a dialogue; 0 if that is not known."""
    better_is_less = view.judged_by and view.summary.metrics[view.judged_by].higher_is_better is False
    return (pair.change or 0.0) * (1.0 if better_is_less else -1.0)


def _counted(view: RunView, name: str, pairs: Sequence[Pair]) -> str:
    new = sum(name in pair.fires for pair in pairs)
    gone = sum(name in pair.stops for pair in pairs)
    return f"{lowered(view.label(name))} on {new:,} (no longer on {gone:,})" if new else ""


def _card(view: RunView, pair: Pair, metric: str | None, *, full: bool) -> WorseCard:
    row = view.dialogues[pair.place]
    ours, theirs = (view.replies[name or ""][pair.id] for name in (view.candidate, view.reference))
    fired = tuple(_fired(view, finding) for finding in ours.findings if finding.metric in pair.fires)
    said = {rule.label for rule in fired}
    fired += tuple(Fired(label, "", ()) for name in pair.fires if (label := view.label(name)) not in said)
    words, before = (_words(reply, pair.fires or safety_rules(view)) for reply in (ours, theirs))
    factor = 100.0 if metric and is_share(view.summary.metrics[metric].unit) else 1.0
    change = brief(pair.change * factor) if pair.change is not None and _loss(view, pair) > 0 else ""
    question = view.frame.question(row.prompt)
    shown = full and not view.redacted
    return WorseCard(
        id=shorten(visible(pair.id), 80),
        title="" if view.redacted else shorten(visible(question), 150),
        change=change,
        fired=fired,
        question=passage(question, _CHARACTERS, words=words) if shown else None,
        sides=_sides(
            _side(view.reference, theirs.reply, ours.reply, before),
            _side(view.candidate, ours.reply, theirs.reply, words),
        )
        if shown
        else (),
        reference=passage(row.reference, _CHARACTERS, words=words) if shown and row.reference else None,
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
