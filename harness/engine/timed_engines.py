"""The two ways in which a request is driven and timed: plain ``generate``, and static cache with CUDA graphs."""

from __future__ import annotations

from typing import Any, Protocol

from harness.engine.pool import LoadedModel
from harness.engine.timing import Timed, timed_generate


class TimedEngine(Protocol):
    """Drives one variant."""

    def request(self, prompts: list[list[int]], reply_tokens: int, *, natural: bool) -> Timed:
        """Answer a batch of prompts in step and return the stamps of its steps."""
        ...


class EagerEngine:
    """What plain ``generate`` with its dynamic cache gives."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        pad = loaded.tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else loaded.tokenizer.eos_token_id or 0)

    def request(self, prompts: list[list[int]], reply_tokens: int, *, natural: bool) -> Timed:
        """See TimedEngine."""
        return timed_generate(
            self._loaded.model,
            prompts,
            reply_tokens=reply_tokens,
            natural=natural,
            pad=self._pad,
            device=self._loaded.device,
        )


def make_engine(name: str, loaded: LoadedModel) -> Any:
    """Return the engine of that name for a loaded variant."""
    if name == "eager":
        return EagerEngine(loaded)
    raise ValueError(f"no engine is called {name}")
