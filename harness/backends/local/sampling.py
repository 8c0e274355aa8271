"""The next token from logits: the most likely one, or a draw that depends on the dialogue alone."""

from __future__ import annotations

import hashlib
import random

import torch


class Chooser:
    """Greedy without a temperature. With one, each request draws from its own seeded stream of random numbers.

    So a reply depends neither on the batch it was in nor on the order of the dialogues.
    """

    def __init__(self, temperature: float = 0.0, top_p: float = 1.0, seed: int = 0) -> None:
        self.temperature = temperature
        self.top_p = top_p
        self.seed = seed
        self._streams: dict[str, random.Random] = {}

    @property
    def greedy(self) -> bool:
        return self.temperature == 0.0

    def choose(self, logits: torch.Tensor, ids: list[str | None]) -> torch.Tensor:
        """Return one token a row from logits [rows, vocabulary]; ``ids`` name the requests (None: an idle row)."""
        if self.greedy:
            return logits.argmax(dim=-1)
        draws = [self._draw(request) if request is not None else 0.0 for request in ids]
        uniform = torch.tensor(draws, dtype=torch.float32, device=logits.device)[:, None]
        ordered, order = torch.softmax(logits.float() / self.temperature, dim=-1).sort(dim=-1, descending=True)
        cumulative = ordered.cumsum(dim=-1)
        # Keep the smallest set whose probability reaches top_p; the draw is scaled to that set's own probability.
        kept = (cumulative - ordered) < self.top_p
        total = (ordered * kept).sum(dim=-1, keepdim=True)
        place = torch.searchsorted(cumulative, uniform * total, right=True)
        place = torch.minimum(place, kept.sum(dim=-1, keepdim=True) - 1)
        return order.gather(-1, place)[:, 0]

    def forget(self, request: str) -> None:
        """Drop a request's stream: it is finished, or begins again from its first token."""
        self._streams.pop(request, None)

    def _draw(self, request: str) -> float:
        if request not in self._streams:
            digest = hashlib.sha256(f"{self.seed}\x1f{request}".encode("utf-8", "surrogatepass")).digest()
            self._streams[request] = random.Random(int.from_bytes(digest[:16], "big"))
        return self._streams[request].random()
