"""A timed request: plain ``generate`` with a host time stamp for every token.

The stamp of a token is taken when its id has reached the host, so the device has finished the step that made it.
Stamps are ``time.perf_counter_ns``: one monotonic clock for a whole run.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Timed:
    """One request (or one batch of them in step). ``stamps_ns[i]``: when every row's token i was on the host.

    ``tokens`` are each row's; ``setup_seconds`` went into capturing or compiling within the request, which then is no
    measurement.
    """

    prompt_tokens: int
    submitted_ns: int
    stamps_ns: tuple[int, ...]
    tokens: tuple[tuple[int, ...], ...] = ()
    setup_seconds: float = 0.0


class StampStreamer:
    """Takes the place of a streamer in ``generate``, which hands it each step's token ids on the host.

    The first call brings the prompt and is no output. Tokens are counted by their ids, not by calls.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.stamps_ns: list[int] = []
        self._prompt_seen = False

    def put(self, value: Any) -> None:
        """Stamp the tokens that have just arrived, one for each row."""
        now = time.perf_counter_ns()
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        if value.is_cuda:
            raise RuntimeError("generate handed over token ids that are still on the device: stamps would lie")
        self.stamps_ns.extend([now] * (value.numel() // self.rows))

    def end(self) -> None:
        """Nothing is held back, so there is nothing to flush."""


def timed_generate(
    model: Any, prompts: list[list[int]], *, reply_tokens: int, natural: bool, pad: int, device: str
) -> Timed:
    """Run plain greedy ``generate`` over a batch of prompts of equal or different length, padded on the left.

    Fixed length (min = max) unless ``natural``, in which case the reply ends where the model ends it.
    """
    import torch

    from harness.backends.local.device import synchronize

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    streamer = StampStreamer(len(prompts))
    synchronize(device)
    submitted = time.perf_counter_ns()
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(device),
            attention_mask=mask.to(device),
            do_sample=False,
            num_beams=1,
            pad_token_id=pad,
            streamer=streamer,
            max_new_tokens=reply_tokens,
            min_new_tokens=None if natural else reply_tokens,
        )
    tokens = tuple(tuple(row) for row in made[:, longest:].tolist())
    return Timed(longest, submitted, tuple(streamer.stamps_ns), tokens)
