"""From a model's raw output to the reply that a patient would see: reasoning blocks are taken out.

This is the one place where that happens, for generated replies and for those from files. The raw text is kept beside
the reply.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

Marker = Annotated[str, Field(min_length=1)]
# The opening and the closing mark of each kind of block.
Reasoning = tuple[tuple[Marker, Marker], ...]
REASONING: Reasoning = (("<think>", "</think>"),)


@dataclass(frozen=True)
class ReplyText:
    """``seen`` is what a patient would see of a raw text; ``reasoned`` says whether it had a block.

    ``unfinished``: its last block is never closed, so nothing after its opening is part of the reply.
    """

    seen: str
    reasoned: bool = False
    unfinished: bool = False


def reply_text(raw: str, reasoning: Reasoning, prompt: str = "") -> ReplyText:
    """Return the reply in a raw text. A block may have been opened at the end of the ``prompt``.

    A text without blocks is returned unchanged. Otherwise white space at its ends, which separated the blocks from the
    reply, is removed too.
    """
    text, reasoned, unfinished = raw, False, False
    for opening, closing in reasoning:
        parts = _outside(text, opening, closing, opened=prompt.rstrip().endswith(opening))
        if parts is not None:
            reasoned, unfinished, text = True, unfinished or parts[1], parts[0]
    return ReplyText(text.strip() if reasoned else raw, reasoned, unfinished)


def _outside(text: str, opening: str, closing: str, *, opened: bool) -> tuple[str, bool] | None:
    """Return what is outside of the blocks, and whether the last one is open; None if there are none.

    Everything before a closing mark without an opening one is a block: its opening mark was in a prompt.
    """
    first = text.partition(opening)
    opened = opened or closing in first[0]
    if not opened and not first[1]:
        return None
    kept: list[str] = []
    while True:
        if opened:
            _, closed, text = text.partition(closing)
            if not closed:
                return "".join(kept), True
        before, mark, text = text.partition(opening)
        kept.append(before)
        if not mark:
            return "".join(kept), False
        opened = True
