"""A sheet of dialogues for people to read and mark: two replies each, in blind order, without names and scores.

Half of the dialogues are drawn from those on which a safety rule fires, first where it newly fires for the candidate;
the others at random. Which variant is A and which is B is drawn for each dialogue by the run's seed. The key is a file
apart, so that marks can be joined to variants afterwards.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError
from harness.files import write_text_atomically
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, ReplyRow
from harness.store.seals import numbers_digest
from reports.render import render_printed
from reports.rules import newly_fires, safety_rules
from reports.tables import csv_text
from reports.view import RunView, read_view

SHEET, KEY = "reading-list.html", "reading-list-key.csv"
_LETTERS = "AB"


@dataclass(frozen=True)
class Drawn:
    """One dialogue of the sheet. ``variants`` are in the order of the letters; ``rules`` are those that fire on it."""

    row: DialogueRow
    variants: tuple[str, ...]
    rules: tuple[str, ...]
    by_rule: bool


@dataclass(frozen=True)
class SheetCard:
    """One dialogue as it is printed. ``replies`` are pairs of letter and text."""

    number: int
    question: str
    replies: tuple[tuple[str, str], ...]
    reference: str | None


@dataclass(frozen=True)
class _Candidate:
    row: DialogueRow
    fires: tuple[str, ...]
    newly: bool


def write_reading_list(folder: RunFolder, count: int, out_dir: Path | None = None) -> tuple[Path, Path]:
    """Write the sheet and its key, by default into the run folder, and return their paths.

    Raises InputError if the run's texts were redacted, or no dialogue has a reply of each variant.
    """
    view = read_view(folder)
    drawn = draw(view, count)
    code = (numbers_digest(folder) or "")[:8]
    around = view.frame
    cards = tuple(_card(view, number, one, around.question(one.row.prompt)) for number, one in enumerate(drawn, 1))
    sheet, key = (Path(out_dir or folder.root) / name for name in (SHEET, KEY))
    facts = {"cards": cards, "code": code, "letters": _LETTERS[: len(drawn[0].variants)]}
    write_text_atomically(sheet, render_printed("reading_list.html", "reading_list.css", facts))
    write_text_atomically(key, csv_text(_key(code, drawn)))
    return sheet, key


def draw(view: RunView, count: int) -> tuple[Drawn, ...]:
    """Return ``count`` dialogues (or all, if there are fewer) in random order; the same run gives the same ones."""
    variants = tuple(dict.fromkeys(name for name in (view.reference, view.candidate) if name))
    known = _known(view, variants)
    if not known:
        raise InputError(
            f"{view.folder.root} has no dialogue with a reply of {' and '.join(variants) or 'any variant'} to read. "
            "A run whose texts were redacted has none."
        )
    seed = view.manifest.config.get("seed")
    generator = random.Random(f"reading list {seed}")
    shuffled = generator.sample(known, len(known))
    firing = [one for one in shuffled if one.fires]
    firing.sort(key=lambda one: not one.newly)  # a stable sort: at random within the two kinds
    by_rule = firing[: (count + 1) // 2]
    taken = {one.row.id for one in by_rule}
    others = [one for one in shuffled if one.row.id not in taken][: count - len(by_rule)]
    chosen = [(one, True) for one in by_rule] + [(one, False) for one in others]
    generator.shuffle(chosen)
    return tuple(
        Drawn(one.row, tuple(generator.sample(variants, len(variants))), one.fires, ruled) for one, ruled in chosen
    )


def _known(view: RunView, variants: Sequence[str]) -> list[_Candidate]:
    """Return the dialogues that every variant has a reply to, with the rules that fire on one of the replies.

    One of the replies must have text to read: in a redacted run none has.
    """
    rules, found = safety_rules(view), []
    for row in view.dialogues:
        replies = [view.replies.get(variant, {}).get(row.id) for variant in variants]
        given = [reply for reply in replies if reply is not None and reply.reply is not None]
        if len(given) < len(replies) or not any((reply.reply or "").strip() for reply in given):
            continue
        fires = tuple(name for name in rules if any(reply.scores.get(name) for reply in given))
        newly = any(newly_fires(name, given[-1], _other(given)) for name in rules)
        found.append(_Candidate(row, fires, newly))
    return found


def _other(replies: Sequence[ReplyRow]) -> ReplyRow | None:
    return replies[0] if len(replies) > 1 else None


def _card(view: RunView, number: int, drawn: Drawn, question: str) -> SheetCard:
    texts = (view.replies[variant][drawn.row.id].reply or "" for variant in drawn.variants)
    replies = tuple(zip(_LETTERS, texts, strict=False))
    return SheetCard(number, question, replies, drawn.row.reference)


def _key(code: str, drawn: Sequence[Drawn]) -> list[Sequence[object]]:
    letters = _LETTERS[: len(drawn[0].variants)]
    rows: list[Sequence[object]] = [("sheet", "number", "id", *letters, "drawn", "rules")]
    for number, one in enumerate(drawn, 1):
        how = "rule findings" if one.by_rule else "at random"
        rows.append((code, number, one.row.id, *one.variants, how, "; ".join(one.rules)))
    return rows
