"""Which words of a reply differ from another text: a longest common subsequence of words, as segments to print."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rapidfuzz.distance import LCSseq

_WORDS = re.compile(r"\w+|[^\w\s]|\s+")


@dataclass(frozen=True)
class Segment:
    """A stretch of text; ``marked`` where it is not in the other text at this place."""

    text: str
    marked: bool = False


def words_unlike(text: str, other: str) -> tuple[Segment, ...]:
    """Return ``text`` in order as segments, marking the words that ``other`` does not have at that place.

    Case and white space do not count as differences. A lone word that both have amid different ones is marked with
    them: it is there by chance, and so is where it stands. Joining the segments gives ``text`` back.
    """
    pieces = _WORDS.findall(text)
    solid = [i for i, piece in enumerate(pieces) if not piece.isspace()]
    ours = [pieces[i].casefold() for i in solid]
    theirs = [piece.casefold() for piece in _WORDS.findall(other) if not piece.isspace()]
    marked = [False] * len(pieces)
    for block in LCSseq.opcodes(theirs, ours):
        if block.tag != "equal":
            for index in solid[block.dest_start : block.dest_end]:
                marked[index] = True
    chance = [
        at for before, at, after in zip(solid, solid[1:], solid[2:], strict=False) if marked[before] and marked[after]
    ]
    for index in chance:
        marked[index] = True
    return _join(pieces, marked)


def _join(pieces: list[str], marked: list[bool]) -> tuple[Segment, ...]:
    """Join neighbours of one kind; white space between two marked words is marked with them."""
    for i in range(1, len(pieces) - 1):
        if pieces[i].isspace() and marked[i - 1] and marked[i + 1]:
            marked[i] = True
    segments: list[Segment] = []
    start = 0
    for i in range(1, len(pieces) + 1):
        if i == len(pieces) or marked[i] != marked[start]:
            segments.append(Segment("".join(pieces[start:i]), marked[start]))
            start = i
    return tuple(segments)
