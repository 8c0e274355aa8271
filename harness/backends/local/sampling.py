"""Choose the next token (greedily, or with a draw that depends on the dialogue alone) and detect a reply's end."""

from __future__ import annotations

import hashlib
import random

import torch

from harness.backends.local.transformers_types import CausalLM
from harness.dialogues.tokens import Tokenizer

NOT_FINITE = "the logits are not finite"  # the error in a dialogue's record: NaN or infinite numbers choose no token


class Sampler:
    """Greedy without a temperature. With one, each request draws from its own seeded random stream.

    A reply therefore depends neither on its batch nor on the order of the dialogues.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def sample(self, logits: torch.Tensor, ids: list[str | None]) -> torch.Tensor:
        """Return one token per row from logits [rows, vocabulary]; ``ids`` are the requests' (None: an idle row)."""
        if self.greedy:
            return logits.argmax(dim=-1)
        draws = [self._draw(request) if request is not None else 0.0 for request in ids]
        uniform = torch.tensor(draws, dtype=torch.float32, device=logits.device)[:, None]
        ordered, order = torch.softmax(logits.float() / self.temperature, dim=-1).sort(dim=-1, descending=True)
        cumulative = ordered.cumsum(dim=-1)
        # Keep the smallest set whose probability reaches top_p and scale the draw to the set's total probability.
        kept = (cumulative - ordered) < self.top_p
        total = (ordered * kept).sum(dim=-1, keepdim=True)
        place = torch.searchsorted(cumulative, uniform * total, right=True)
        place = torch.minimum(place, kept.sum(dim=-1, keepdim=True) - 1)
        return order.gather(-1, place)[:, 0]

    def forget(self, request: str) -> None:
        """Drop a request's stream because it is finished or starts again from its first token."""
        self._streams.pop(request, None)

    def _draw(self, request: str) -> float:
        if request not in self._streams:
            self._streams[request] = random.Random(int.from_bytes(seed_digest(self.seed, request)[:16], "big"))
        return self._streams[request].random()


def seed_digest(seed: int, request: str) -> bytes:
    """Return bytes to seed a generator with, which depend on the run's seed and the dialogue alone."""
    return hashlib.sha256(f"{seed}\x1f{request}".encode("utf-8", "surrogatepass")).digest()


def end_tokens(model: CausalLM, tokenizer: Tokenizer) -> frozenset[int]:
    """Return every id that ends a reply: those of the generation config, or else the tokenizer's own."""
    stated = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if stated is None:
        stated = tokenizer.eos_token_id
    if stated is None:
        return frozenset()
    return frozenset([stated] if isinstance(stated, int) else stated)


class StopStrings:
    """Finds stop strings in a growing reply, decoding it only when a token could complete one.

    A stop string may be or contain a special token, which the reply's own text does not show.
    """

    def __init__(self, stops: tuple[str, ...], tokenizer: Tokenizer) -> None:
        self.stops = tuple(stop for stop in stops if stop)
        self._tokenizer = tokenizer
        self._special = frozenset(tokenizer.all_special_ids)
        self._may_complete: dict[int, bool] = {}

    def cut(self, tokens: list[int]) -> str | None:
        """Return the reply up to the first stop string in it, or None. Called after every token."""
        if not self.stops or not self._candidate(tokens[-1]):
            return None
        text = self._tokenizer.decode(tokens)
        found = [position for position in (text.find(stop) for stop in self.stops) if position >= 0]
        return self._shown(tokens, text, min(found)) if found else None

    def _shown(self, tokens: list[int], text: str, end: int) -> str:
        """Return the first ``end`` characters of the tokens' text, without special tokens."""
        if self._special.isdisjoint(tokens):
            return text[:end]
        whole = len(tokens) - 1  # how many tokens are before the stop string as a whole
        while len(before := self._tokenizer.decode(tokens[:whole])) > end:
            whole -= 1
        part = "" if tokens[whole] in self._special else text[len(before) : end]
        return self._tokenizer.decode(tokens[:whole], skip_special_tokens=True) + part

    def _candidate(self, token: int) -> bool:
        """Return whether this token's text could contain the end of a stop string."""
        if token not in self._may_complete:
            # An incomplete character could be part of anything.
            piece = self._tokenizer.decode([token])
            unsure = not piece or "�" in piece
            self._may_complete[token] = unsure or any(_overlaps(stop, piece) for stop in self.stops)
        return self._may_complete[token]


def _overlaps(stop: str, piece: str) -> bool:
    """Return whether ``stop`` can end within ``piece``: it is inside, or one of its suffixes begins the piece."""
    if stop in piece:
        return True
    pieces = (piece, f" {piece}")  # decoding a single token may drop its leading space
    return any(p.startswith(stop[-size:]) for size in range(1, len(stop) + 1) for p in pieces)
