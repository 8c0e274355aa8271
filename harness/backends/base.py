"""What is asked of a decoder, and what it gives: prompts and replies as tokens, and how replies are made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Request:
    """One prompt, as token ids."""

    id: str
    ids: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class Reply:
    """What a request got: its tokens without the one that ended it, and when each was on the host.

    ``stamps_ns`` holds the time of every token made, the ending one included, on ``time.perf_counter_ns``'s clock.
    """

    id: str
    tokens: tuple[int, ...]
    text: str
    finish: Literal["eos", "stop", "length"] | None
    submitted_ns: int
    stamps_ns: tuple[int, ...]
    error: str | None = None


@dataclass(frozen=True)
class DecodingSettings:
    """How replies are made. ``fixed_length``: exactly ``max_new_tokens``, whatever ends a reply otherwise."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    fixed_length: bool = False
