"""The two ways in which a request is driven and timed: plain ``generate``, and static slots with CUDA graphs.

The stamp of a token is taken when its id has reached the host, so the device has finished the step that made it.
Stamps are ``time.perf_counter_ns``: one monotonic clock for a whole run. PEFT leaves its wrappers around the base's
layers when an adapter is off; they cost the host a few per cent of a step, which is the measurement's doing, not the
base's: within ``bare`` the layers themselves stand in their wrappers' places.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from harness.backends.base import Reply, ReplyRequest, Timed
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.pool import LoadedModel
from harness.backends.local.transformers_types import CausalLM


class TimedEngine(Protocol):
    """Drives one variant while the pool lends it. ``notes`` say what a reader of its timings must know."""

    notes: list[str]

    def request(self, prompts: Sequence[Sequence[int]], reply_tokens: int, *, natural: bool, room: int) -> Timed:
        """Answer a batch of prompts in step and return the stamps of its steps.

        ``room``: how many tokens a row of any coming request of this shape may hold, prompt and reply.
        """
        ...


class EagerEngine:
    """What plain ``generate`` with its dynamic cache gives."""

    def __init__(self, loaded: LoadedModel) -> None:
        self._loaded = loaded
        pad = loaded.tokenizer.pad_token_id
        self._pad = int(pad if pad is not None else loaded.tokenizer.eos_token_id or 0)
        self.notes: list[str] = []

    def request(self, prompts: Sequence[Sequence[int]], reply_tokens: int, *, natural: bool, room: int) -> Timed:
        """See TimedEngine."""
        return timed_generate(
            self._loaded.model,
            prompts,
            reply_tokens=reply_tokens,
            natural=natural,
            pad=self._pad,
            device=self._loaded.device,
        )


class CompiledEngine:
    """What static slots, fused layers and one CUDA graph a step give; without CUDA, slots alone.

    Raises UnsupportedError where the model cannot be driven so.
    """

    def __init__(self, loaded: LoadedModel, *, room: int) -> None:
        from harness.backends.local.fused_layers import FusedLayers, why_unavailable
        from harness.backends.local.graphs import why_no_graphs
        from harness.backends.local.selfcheck import why_not

        self._loaded = loaded
        self._decoders: dict[tuple[int, int, int, bool], SlotDecoder] = {}
        self.notes: list[str] = []
        cuda = loaded.device.startswith("cuda")
        self._by_lengths = cuda and why_not(loaded.model, loaded.device, room, by_lengths=True) is None
        obstacle = None if self._by_lengths else why_not(loaded.model, loaded.device, room, by_lengths=False)
        if obstacle is not None:
            raise UnsupportedError(obstacle)
        reason = why_no_graphs(loaded.model) if cuda else "graphs are CUDA's"
        self._graphs = reason is None
        if cuda and reason is not None:
            self.notes.append(f"without CUDA graphs: {reason}")
        if cuda and (missing := why_unavailable(loaded.device)) is not None:
            self.notes.append(f"without fused kernels: {missing}")
        self._fused = FusedLayers(loaded.model, loaded.device)

    def request(self, prompts: Sequence[Sequence[int]], reply_tokens: int, *, natural: bool, room: int) -> Timed:
        """See TimedEngine."""
        from harness.backends.local.device import synchronize

        decoder = self._decoder(len(prompts), reply_tokens, natural, room)
        waiting = deque(ReplyRequest(str(row), tuple(prompt)) for row, prompt in enumerate(prompts))
        before = decoder.graphs.capture_seconds if decoder.graphs else 0.0
        synchronize(self._loaded.device)
        with self._fused.installed():
            made = [reply for reply in decoder.run(waiting) if isinstance(reply, Reply)]
        replies = sorted(made, key=lambda reply: int(reply.id))
        wrong = next((reply.error for reply in replies if reply.error), None)
        if wrong:
            raise UnsupportedError(wrong)
        spent = decoder.graphs.capture_seconds - before if decoder.graphs else 0.0
        # A step is over when its last row's token is on the host: prompts may go in by several forwards.
        stamps = tuple(max(row) for row in zip(*(reply.stamps_ns for reply in replies), strict=True))
        tokens = tuple(reply.tokens for reply in replies)
        return Timed(replies[0].submitted_ns, stamps, tokens, spent)

    def _decoder(self, rows: int, reply_tokens: int, natural: bool, room: int) -> SlotDecoder:
        """Return the decoder of this shape, made (and its graph captured) once."""
        from harness.backends.base import DecodingSettings
        from harness.backends.local.batches import COLUMN_STEP, bucket

        shape = (rows, bucket(room, COLUMN_STEP), reply_tokens, natural)
        if shape not in self._decoders:
            self._decoders[shape] = SlotDecoder(
                self._loaded,
                DecodingSettings(reply_tokens, fixed_length=not natural),
                rows=rows,
                columns=shape[1],
                graphs=self._graphs,
                by_lengths=self._by_lengths,
            )
        return self._decoders[shape]


class UnsupportedError(Exception):
    """A model that an engine cannot drive, and why."""


def make_engine(name: str, loaded: LoadedModel, *, room: int) -> TimedEngine:
    """Return the engine of that name for a loaded variant; raise UnsupportedError where it cannot drive the variant.

    ``room``: how many tokens a row of any coming request may hold, prompt and reply.
    """
    if name == "eager":
        return EagerEngine(loaded)
    if name == "compiled":
        return CompiledEngine(loaded, room=room)
    raise ValueError(f"no engine is called {name}")


@contextlib.contextmanager
def bare(model: CausalLM) -> Iterator[None]:
    """Take switched-off wrappers out of ``model`` within the block; those of an adapter that is on stay."""
    taken: list[tuple[Any, str, Any]] = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if hasattr(child, "lora_A") and child.disable_adapters:
                taken.append((parent, name, child))
    try:
        for parent, name, wrapper in taken:
            setattr(parent, name, wrapper.base_layer)
        yield
    finally:
        for parent, name, wrapper in taken:
            setattr(parent, name, wrapper)


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
    model: CausalLM, prompts: Sequence[Sequence[int]], *, reply_tokens: int, natural: bool, pad: int, device: str
) -> Timed:
    """Run plain greedy ``generate`` over a batch of prompts of equal or different length, padded on the left.

    Fixed length (min = max) unless ``natural``, in which case the reply ends where the model ends it.
    """
    import torch

    from harness.backends.local.device import synchronize

    longest = max(len(prompt) for prompt in prompts)
    ids = torch.tensor([[pad] * (longest - len(prompt)) + [*prompt] for prompt in prompts])
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
    return Timed(submitted, tuple(streamer.stamps_ns), tokens)
