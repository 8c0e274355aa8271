"""What is asked of a decoder, and what it gives: prompts and replies as tokens, and how replies are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from harness.backends.local.batching import bucket

COLUMN_STEP = 64


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


@dataclass
class DecodingProfile:
    """Where a decoder's time went. ``rows_computed`` counts idle rows too; captures are part of ``step_seconds``."""

    prompt_tokens: int = 0
    prefill_seconds: float = 0.0
    steps: int = 0
    rows_computed: int = 0
    tokens: int = 0
    step_seconds: float = 0.0


def columns_for(requests: Sequence[Request], settings: DecodingSettings) -> int:
    """Return how many columns the longest of these requests may need."""
    longest = max((len(request) for request in requests), default=0)
    return bucket(longest + settings.max_new_tokens, COLUMN_STEP)
