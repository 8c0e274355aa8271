"""The two engines for timed requests: plain ``generate``, and static slots with CUDA graphs.

A token is stamped when its id has reached the host, so the device has finished the step that produced it. Stamps are
``time.perf_counter_ns``: one monotonic clock for a whole run.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence, Set
from dataclasses import replace
from typing import Any, Protocol

import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, Timed
from harness.backends.local.batches import COLUMN_STEP, bucket
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.device import synchronize
from harness.backends.local.fused_layers import FusedLayers, why_not_fused
from harness.backends.local.generate import generation_settings
from harness.backends.local.graphs import why_no_graphs
from harness.backends.local.pool import LoadedModel
from harness.backends.local.sampling import end_tokens
from harness.backends.local.scoring import left_padded
from harness.backends.local.selfcheck import why_not
from harness.backends.local.transformers_types import CausalLM


class FirstLaunch:
    """When the host had launched the first token's forward (``at_ns``; None if unknown): the rest is waiting.

    Where that is nearly all of TTFT, the host's launches are what is timed, and two processes may differ by a fifth.
    """

    def __init__(self, model: CausalLM) -> None:
        self._head = model.get_output_embeddings()
        self.at_ns: int | None = None

    def __enter__(self) -> FirstLaunch:
        self._hook = None if self._head is None else self._head.register_forward_hook(self._launched)
        return self

    def __exit__(self, *_: object) -> None:
        if self._hook is not None:
            self._hook.remove()

    def _launched(self, *_: object) -> None:
        if self.at_ns is None:
            self.at_ns = time.perf_counter_ns()


class TimedEngine(Protocol):
    """Runs one variant while the pool lends it.

    ``notes`` are caveats for readers of its timings. A request may add some.
    """

    notes: list[str]

    def request(self, prompts: Sequence[Sequence[int]], reply_tokens: int, *, natural: bool, room: int) -> Timed:
        """Answer a batch of prompts in lockstep and return the stamps of its steps.

        ``room`` is the most tokens (prompt and reply) of a row in any coming request of this shape.
        """
        ...


class EagerEngine:
    """Plain ``generate`` with its dynamic cache."""

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
            ends=end_tokens(self._loaded.model, self._loaded.tokenizer) if natural else frozenset(),
            pad=self._pad,
            device=self._loaded.device,
        )


class CompiledEngine:
    """Static slots, fused layers and one CUDA graph per step, and per prompt at batch 1; without CUDA, only slots.

    Raises UnsupportedError if the model cannot be run this way.
    """

    prompt_graphs = True

    def __init__(self, loaded: LoadedModel, *, room: int) -> None:
        self._loaded = loaded
        self._decoders: dict[tuple[int, int, int, bool], SlotDecoder] = {}
        self.notes: list[str] = []
        cuda = loaded.device.startswith("cuda")
        self._by_lengths = cuda and why_not(loaded.model, loaded.device, room, by_lengths=True) is None
        obstacle = None if self._by_lengths else why_not(loaded.model, loaded.device, room, by_lengths=False)
        if obstacle is not None:
            raise UnsupportedError(obstacle)
        reason = why_no_graphs(loaded.model) if cuda else "graphs need CUDA"
        self._graphs = reason is None
        self._prompt_graphs = reason is None and self.prompt_graphs
        if cuda and reason is not None:
            self._without_graphs(reason)
        if cuda and (missing := why_not_fused(loaded.model, loaded.device)) is not None:
            self.notes.append(f"without fused kernels: {missing}")
        self._fused = FusedLayers(loaded.model, loaded.device)

    def request(self, prompts: Sequence[Sequence[int]], reply_tokens: int, *, natural: bool, room: int) -> Timed:
        """See TimedEngine. A reply during which a graph was captured has invalid stamps, and is repeated."""
        decoder = self._decoder(len(prompts), reply_tokens, natural, room)
        before = _setup_seconds(decoder)
        while True:
            captured = decoder.profile.capture_seconds
            timed = self._answer(decoder, prompts)
            if decoder.profile.capture_seconds == captured:
                return replace(timed, setup_seconds=_setup_seconds(decoder) - before)

    def _answer(self, decoder: SlotDecoder, prompts: Sequence[Sequence[int]]) -> Timed:
        waiting = deque(ReplyRequest(str(row), tuple(prompt)) for row, prompt in enumerate(prompts))
        synchronize(self._loaded.device)
        with self._fused.installed():
            made = [reply for reply in decoder.run(waiting) if isinstance(reply, Reply)]
        replies = sorted(made, key=lambda reply: int(reply.id))
        wrong = next((reply.error for reply in replies if reply.error), None)
        if wrong:
            raise UnsupportedError(wrong)
        # A step ends when its last row's token is on the host: prompts may take several forwards.
        stamps = tuple(max(row) for row in zip(*(reply.stamps_ns for reply in replies), strict=True))
        tokens = tuple(reply.tokens for reply in replies)
        launched = decoder.profile.launched_ns if self._loaded.device.startswith("cuda") else None
        return Timed(replies[0].submitted_ns, stamps, tokens, launched_ns=launched)

    def _decoder(self, rows: int, reply_tokens: int, natural: bool, room: int) -> SlotDecoder:
        """Return the decoder of this shape, created (with its graph captured) once."""
        shape = (rows, bucket(room, COLUMN_STEP), reply_tokens, natural)
        if shape not in self._decoders:
            self._decoders[shape] = SlotDecoder(
                self._loaded,
                DecodingSettings(reply_tokens, fixed_length=not natural),
                rows=rows,
                columns=shape[1],
                graphs=self._graphs,
                by_lengths=self._by_lengths,
                without_graphs=self._without_graphs,
                without_prompt_graphs=self._without_prompt_graphs if rows == 1 and self._prompt_graphs else None,
            )
        return self._decoders[shape]

    def _without_graphs(self, reason: str) -> None:
        self._graphs = False
        self.notes.append(f"without CUDA graphs: {reason}")

    def _without_prompt_graphs(self, reason: str) -> None:
        self._prompt_graphs = False
        self.notes.append(f"prompts without CUDA graphs: {reason}")


def _setup_seconds(decoder: SlotDecoder) -> float:
    return decoder.profile.capture_seconds + decoder.profile.prepare_seconds


class UnsupportedError(Exception):
    """An engine cannot run a model; the message says why."""


def make_engine(name: str, loaded: LoadedModel, *, room: int) -> TimedEngine:
    """Return the engine of that name for a loaded variant; raise UnsupportedError if it cannot run the variant.

    ``room`` is the most tokens (prompt and reply) of a row in any coming request.
    """
    if name == "eager":
        return EagerEngine(loaded)
    if name == "compiled":
        return CompiledEngine(loaded, room=room)
    raise ValueError(f"there is no engine '{name}'")


class StampStreamer:
    """A streamer for ``generate``, which passes it each step's token ids on the host.

    The first call has the prompt, not output. Tokens are counted by their ids, not by calls.
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
            raise RuntimeError("generate passed token ids that are still on the device, so the stamps would be wrong")
        self.stamps_ns.extend([now] * (value.numel() // self.rows))

    def end(self) -> None:
        """Do nothing: no tokens are buffered."""


def timed_generate(
    model: CausalLM, prompts: Sequence[Sequence[int]], *, reply_tokens: int, ends: Set[int], pad: int, device: str
) -> Timed:
    """Run plain greedy ``generate`` over a batch of prompts of equal or different length, padded on the left.

    A reply has ``reply_tokens`` tokens, or fewer if the model chooses one of ``ends``. The model's own penalties are
    left out, as in the other engine, so that both do equal work.
    """
    ids, mask = left_padded(prompts, pad)
    streamer = StampStreamer(len(prompts))
    synchronize(device)
    submitted = time.perf_counter_ns()
    settings = {"max_new_tokens": reply_tokens, "eos_token_id": sorted(ends) or None, "pad_token_id": pad}
    with torch.inference_mode(), generation_settings(model, **settings), FirstLaunch(model) as launch:
        made = model.generate(input_ids=ids.to(device), attention_mask=mask.to(device), streamer=streamer)
    tokens = tuple(tuple(row) for row in made[:, ids.shape[1] :].tolist())
    launched = launch.at_ns if device.startswith("cuda") else None
    return Timed(submitted, tuple(streamer.stamps_ns), tokens, launched_ns=launched)
