"""When a reply ends: the model's end tokens, stop strings, or its length."""

from __future__ import annotations

from typing import Any


def end_tokens(model: Any, tokenizer: Any) -> frozenset[int]:
    """Return every id that ends a reply: the generation config's (one or several), or the tokenizer's own."""
    stated = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    if stated is None:
        stated = tokenizer.eos_token_id
    if stated is None:
        return frozenset()
    return frozenset([stated] if isinstance(stated, int) else stated)


class StopStrings:
    """Finds stop strings in a growing reply, and decodes text only where a token could complete one."""

    def __init__(self, stops: tuple[str, ...], tokenizer: Any) -> None:
        self.stops = tuple(stop for stop in stops if stop)
        self._tokenizer = tokenizer
        self._may_complete: dict[int, bool] = {}

    def cut(self, tokens: list[int]) -> str | None:
        """Return the reply before the first stop string it contains, or None. Asked after every token."""
        if not self.stops or not self._candidate(tokens[-1]):
            return None
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        found = [position for position in (text.find(stop) for stop in self.stops) if position >= 0]
        return text[: min(found)] if found else None

    def _candidate(self, token: int) -> bool:
        """Tell whether this token's text could hold the end of a stop string."""
        if token not in self._may_complete:
            # Between two neighbours, so that a word's leading space shows; a part of a character may hold anything.
            piece = self._tokenizer.decode([token])
            unsure = not piece or "�" in piece
            self._may_complete[token] = unsure or any(_overlaps(stop, piece) for stop in self.stops)
        return self._may_complete[token]


def _overlaps(stop: str, piece: str) -> bool:
    """Tell whether ``stop`` can end within ``piece``: one of its ends begins the piece, or it is inside."""
    if stop in piece:
        return True
    pieces = (piece, f" {piece}")  # decoding a single token may drop its leading space
    return any(p.startswith(stop[-size:]) for size in range(1, len(stop) + 1) for p in pieces)
