"""Two texts side by side: which words differ, and which of them a rule fired on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from reports.diff import Segment, words_unlike
from reports.escape import cut
from reports.numbers import size

UNLIKE = 0.8  # with a larger share of the characters marked, the marks would say no more than that all is different


@dataclass(frozen=True)
class Piece:
    """A stretch of text. ``differs``: not in the other text at this place. ``rule``: a rule fired on it."""

    text: str
    differs: bool = False
    rule: bool = False


@dataclass(frozen=True)
class Passage:
    """A text to print, possibly truncated. ``unlike``: it has little in common with the other, so nothing is marked."""

    pieces: tuple[Piece, ...]
    left_out: str = ""
    unlike: bool = False


def passage(text: str, limit: int, *, other: str | None = None, words: Iterable[str] = ()) -> Passage:
    """Return the first ``limit`` characters of ``text``, marked where ``other`` differs and where ``words`` stand."""
    kept, rest = cut(text, limit)
    segments = words_unlike(kept, other[: limit * 2]) if other is not None else (Segment(kept),)
    marked = sum(len(segment.text) for segment in segments if segment.marked)
    unlike = bool(kept.strip()) and marked > UNLIKE * len(kept)
    if unlike:
        segments = (Segment(kept),)
    left_out = f"{size(rest)} of {size(len(text))} omitted here" if rest else ""
    return Passage(tuple(_with_words(segments, _places(kept, words))), left_out, unlike)


def _places(text: str, words: Iterable[str]) -> list[tuple[int, int]]:
    """Return where any of ``words`` occurs in ``text``, in order; case and spacing do not count."""
    patterns = sorted({r"\s+".join(map(re.escape, word.split())) for word in words if word.strip()}, key=len)
    if not patterns:
        return []
    whole = re.compile(rf"(?<!\w)(?:{'|'.join(reversed(patterns))})(?!\w)", re.IGNORECASE)
    return [found.span() for found in whole.finditer(text)]


def _with_words(segments: Sequence[Segment], places: Sequence[tuple[int, int]]) -> Iterator[Piece]:
    start = 0
    for segment in segments:
        end = start + len(segment.text)
        position = start
        for low, high in places:
            low, high = max(low, position), min(high, end)
            if low >= high:
                continue
            if low > position:
                yield Piece(segment.text[position - start : low - start], segment.marked)
            yield Piece(segment.text[low - start : high - start], segment.marked, rule=True)
            position = high
        if position < end:
            yield Piece(segment.text[position - start :], segment.marked)
        start = end
