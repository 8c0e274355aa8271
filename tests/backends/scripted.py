"""A backend that answers by rote and needs no torch: what the protocol asks for, and nothing more."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Generator, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from harness.backends.base import (
    Backend,
    Capability,
    Check,
    DecodingSettings,
    Reply,
    ReplyRequest,
    Score,
    ScoringRequest,
    Timed,
    TimedRequest,
)
from harness.backends.ranks import WHOLE, Share
from harness.variants.model import Variant

ABLE = frozenset({Capability.TOKENS, Capability.SCORE, Capability.GENERATE, Capability.JOINT, Capability.TIME})
MILLISECOND = 1_000_000


class Words:
    """A tokenizer: a word is a token."""

    bos_token = eos_token = bos_token_id = eos_token_id = pad_token_id = None
    all_special_ids = ()

    def __call__(self, text: str, **options: Any) -> Mapping[str, list[int]]:
        return {"input_ids": [zlib.crc32(word.encode()) for word in text.split()]}


class Scripted:
    """Every variant's backend at once: a nat a token, replies of two tokens, ten milliseconds a step."""

    context_length = 1000
    lacking: Mapping[Capability, str] = {}

    def __init__(self, capabilities: frozenset[Capability] = ABLE) -> None:
        self.capabilities = capabilities
        self.tokenizer = Words()
        self.asked: list[str] = []
        self.share = WHOLE
        self._clock = count(MILLISECOND, 10 * MILLISECOND)

    def score(self, requests: Sequence[ScoringRequest]) -> Generator[Score]:
        for request in self.share.of_single(requests):
            self.asked.append(f"score {request.id}")
            yield Score(request.id, float(len(request.reference)))

    def generate(self, requests: Sequence[ReplyRequest], settings: DecodingSettings) -> Generator[Reply | Score]:
        yield from self.score([request.reference for request in requests if request.reference])
        for request in self.share.of_single(requests):
            self.asked.append(f"generate {request.id}")
            yield Reply(request.id, (1, 2), "Drink water.", "eos", 0, (1, 2, 3))

    def timed(self, request: TimedRequest) -> Timed:
        submitted, *stamps = (next(self._clock) for _ in range(1 + request.reply_tokens))
        return Timed(submitted, tuple(stamps))


class ScriptedBackends:
    """One ``Scripted`` for each variant, with the capabilities given for its name."""

    def __init__(self, variants: Sequence[Variant], able: Mapping[str, frozenset[Capability]] | None = None) -> None:
        self.by_name: dict[str, Scripted] = {
            variant.name: Scripted((able or {}).get(variant.name, ABLE)) for variant in variants
        }

    def of(self, variant: Variant) -> Backend:
        backend: Any = self.by_name[variant.name]  # which lacks the methods that no capability of its asks for
        return backend

    def take(self, share: Share) -> None:
        for one in self.by_name.values():
            one.share = share

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        return ()

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        return True

    def release(self) -> None: ...
    def close(self) -> None: ...


def variant_folder(folder: Path, *, weights: bytes = b"{}") -> str:
    """Write what passes for a model: its files are found and digested, and nobody loads them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(weights)) + weights)
    return str(folder)
