"""Continuous batching: each step decodes one token per row, and a finished row's slot goes to the next dialogue.

The loop is the same on every device. On CUDA a step may be one replayed graph (``graphs``); nothing else
differs, so the tests on the CPU cover what runs on the GPU.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, Score
from harness.backends.local.batches import (
    COLUMN_STEP,
    DecodingProfile,
    Sized,
    batches,
    bucket,
    prefill_tokens,
    text_config,
)
from harness.backends.local.device import is_out_of_memory, release_cached_memory
from harness.backends.local.graphs import CannotCaptureError, GraphedForward
from harness.backends.local.joint import JointRequest, JointWork
from harness.backends.local.pool import LoadedModel
from harness.backends.local.prompt_graphs import PromptGraphs
from harness.backends.local.sampling import NOT_FINITE, Sampler, StopStrings, end_tokens
from harness.backends.local.scoring import CausalForward, reference_positions, right_padded, summed_losses
from harness.backends.local.slots import SlotAttention, SlotCache

NO_TOKEN = -1  # takes a token's place where the logits are NaN or infinite


@dataclass
class _Row:
    request: ReplyRequest
    submitted_ns: int
    tokens: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)

    @property
    def position(self) -> int:
        """The position of the newest token."""
        return len(self.request) + len(self.tokens) - 1


class SlotDecoder:
    """Decodes requests in ``rows`` slots of ``columns`` tokens each, while the pool lends out its model.

    If a step cannot be captured as a graph, ``without_graphs`` is told why, and decoding goes on without graphs. The
    same is true of prompts: with ``without_prompt_graphs``, one that comes alone is replayed as a graph, too.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        settings: DecodingSettings,
        *,
        rows: int,
        columns: int,
        graphs: bool = False,
        by_lengths: bool = False,
        without_graphs: Callable[[str], None] = lambda reason: None,
        without_prompt_graphs: Callable[[str], None] | None = None,
    ) -> None:
        self.settings = settings
        self.rows = rows
        self.columns = columns
        self.device = loaded.device
        self._loaded = loaded
        self._forward = CausalForward(loaded.model)
        self._attention = SlotAttention(loaded.model, columns, loaded.device, by_lengths=by_lengths)
        masked = not self._attention.reads_own_lengths
        self._cache = SlotCache(text_config(loaded.model).num_hidden_layers, rows, columns, masked=masked)
        self._tokens = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._positions = torch.zeros(rows, dtype=torch.long, device=self.device)
        self._offsets = torch.arange(rows, device=self.device) * columns
        self._sampler = Sampler(settings.temperature, settings.top_p, settings.seed)
        self._ends = frozenset() if settings.fixed_length else end_tokens(loaded.model, loaded.tokenizer)
        self._stops = StopStrings(() if settings.fixed_length else settings.stop, loaded.tokenizer)
        self._prefill_tokens = prefill_tokens(loaded.model, loaded.device)
        self._live: dict[int, _Row] = {}  # by slot
        self._width = rows  # how many slots a step computes
        self.profile = DecodingProfile()
        self.graphs = GraphedForward(self._step) if graphs else None
        self._without_graphs = without_graphs
        self._prompts: PromptGraphs | None = None
        if without_prompt_graphs is not None:
            self._prompts = PromptGraphs(self._forward, self._cache, self.device, without_prompt_graphs)

    @torch.inference_mode()
    def run(self, waiting: deque[ReplyRequest], joint: JointWork | None = None) -> Iterator[Reply | Score]:
        """Yield replies as they finish. Requests leave ``waiting`` when they get a slot; see ``unfinished``.

        Requests of ``joint`` are scored too: each group leaves it after its forward pass, when its scores are yielded.
        """
        joint = joint or JointWork()
        with self._attention.installed():
            if joint.groups:
                self._allocate()
            elif len(waiting) == 1:
                self._prepare(waiting[0])
            self.profile.launched_ns = 0
            submitted = time.perf_counter_ns()
            while waiting or joint.groups or self._live:
                if self._wants_more(waiting):
                    yield from self._fill(waiting, submitted)
                while joint.groups and self._has_room_for(joint):
                    yield from self._fill_together(joint, waiting, submitted)
                if not waiting and not joint.groups:
                    self._narrow()
                if self._live:
                    yield from self._advance()

    def free(self) -> None:
        """Free the memory, so that the next decoder can use it. This decoder must not be used afterwards."""
        self._cache.free()
        for graphs in (self.graphs, self._prompts):
            if graphs is not None:
                graphs.free()

    def unfinished(self) -> list[ReplyRequest]:
        """Return the requests that have a slot but no reply yet; they must be started again."""
        return [row.request for row in self._live.values()]

    def _wants_more(self, waiting: deque[ReplyRequest]) -> bool:
        """Wait for several free slots: prefilling one prompt costs almost as much as a batch."""
        idle = self.rows - len(self._live)
        return bool(waiting) and (not self._live or idle >= max(1, self.rows // 8))

    def _has_room_for(self, joint: JointWork) -> bool:
        """Return whether there are slots for the whole next group (or all slots are free, if it needs more)."""
        return self.rows - len(self._live) >= min(joint.slots_needed(), self.rows)

    def _fill(self, waiting: deque[ReplyRequest], submitted: int) -> Iterator[Reply]:
        """Give free slots to waiting requests: prefill their prompts and take their first tokens."""
        free = self._free()
        taken = [waiting.popleft() for _ in range(min(len(free), len(waiting)))]
        self._occupy(free, taken, submitted)
        slot_of = dict(zip((request.id for request in taken), free, strict=False))
        started = time.perf_counter()
        for batch in batches(taken, self._prefill_tokens):
            slots = [slot_of[request.id] for request in batch]
            chosen = self._prefill(slots, batch)
            self._note_prefill(batch, started)
            yield from self._take_all(slots, chosen)
            started = time.perf_counter()

    def _fill_together(self, joint: JointWork, waiting: deque[ReplyRequest], submitted: int) -> Iterator[Reply | Score]:
        """Score the first group's references and begin its replies with one forward pass."""
        started = time.perf_counter()
        group, free = joint.groups[0], self._free()
        rows = [row for row, request in enumerate(group) if not request.prompt.done]
        # Where memory holds fewer rows than the group, the remaining prompts are prefilled separately later.
        rows, without_slot = rows[: len(free)], rows[len(free) :]
        slots = free[: len(rows)]
        found: tuple[torch.Tensor, list[float]] | None = None
        try:
            found = self._score(group, slots, rows)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if found is None:
            # Outside the handler, because its error keeps the tensors that did not fit alive.
            release_cached_memory(self.device)
            waiting.extend(joint.shrink())
            return
        last, nlls = found
        joint.groups.popleft()
        waiting.extend(group[row].prompt for row in without_slot)
        taken = [group[row].prompt for row in rows]
        self._occupy(slots, taken, submitted)
        scored = zip((request.scored for request in group), nlls, strict=True)
        yield from (Score(request.id, nll) for request, nll in scored if not request.done)
        if not taken:
            chosen = []
        elif all(map(math.isfinite, nlls)):
            chosen = self._begin(slots, taken, self._forward.logits(last))
        else:
            # Zero times NaN is NaN: what a reference left after its prompt would spoil the reply, masked or not.
            chosen = self._prefill(slots, taken)
        self._note_prefill(group, started)
        yield from self._take_all(slots, chosen)

    def _score(self, group: list[JointRequest], slots: list[int], rows: list[int]) -> tuple[torch.Tensor, list[float]]:
        """Run a group through the model and write the prompts of ``rows`` into ``slots``.

        Return the states [rows, width] at the ends of those prompts, and the losses of the whole group.
        """
        where = reference_positions([request.scored for request in group], self.device)
        kept = torch.tensor(rows, dtype=torch.long, device=self.device)
        ends = torch.tensor([len(group[row].prompt) - 1 for row in rows], dtype=torch.long, device=self.device)
        ids = right_padded([list(request.ids) for request in group], self.device)
        self._cache.fill(torch.tensor(slots, dtype=torch.long, device=self.device), kept)
        states = self._forward.states(ids, past_key_values=self._cache, use_cache=True)
        return states[kept, ends], summed_losses(self._forward, states[where.rows, where.columns], where)

    def _prefill(self, slots: list[int], batch: list[ReplyRequest]) -> list[int]:
        """Prefill prompts into slots; return their first tokens."""
        if self._prompts is not None and slots == [0]:
            logits = self._prompts.logits(batch[0].ids)
            if logits is not None:
                return self._begin(slots, batch, logits)
        ends = torch.tensor([len(request) - 1 for request in batch], device=self.device)
        ids = right_padded([list(request.ids) for request in batch], self.device)
        self._cache.fill(torch.tensor(slots, device=self.device))
        states = self._forward.states(ids, past_key_values=self._cache, use_cache=True)
        last = states[torch.arange(len(batch), device=self.device), ends]
        return self._begin(slots, batch, self._forward.logits(last))

    def _begin(self, slots: list[int], batch: list[ReplyRequest], logits: torch.Tensor) -> list[int]:
        """Choose the first tokens by the logits at the ends of the prompts."""
        self.profile.launched_ns = self.profile.launched_ns or time.perf_counter_ns()
        where = torch.tensor(slots, device=self.device)
        chosen, seen = self._choose(logits, [request.id for request in batch])
        self._tokens[where] = chosen
        self._positions[where] = torch.tensor([len(request) for request in batch], device=self.device)
        return seen.tolist()

    def _prepare(self, request: ReplyRequest) -> None:
        """Capture the graph of a single prompt before it is submitted."""
        if self._prompts is None or self._prompts.is_decided(len(request)):
            return
        started = time.perf_counter()
        if self._prompts.prepare(request.ids):
            self._prefill([0], [request])  # a first replay is slow, and a capture empties the allocator's cache
        self.profile.prepare_seconds += time.perf_counter() - started

    def _allocate(self) -> None:
        """Allocate the slots before scoring: if that runs out of memory, fewer slots help, not smaller groups."""
        first = torch.zeros(1, dtype=torch.long, device=self.device)
        self._cache.fill(first)
        self._forward.states(first[None], past_key_values=self._cache, use_cache=True)

    def _free(self) -> list[int]:
        return [slot for slot in range(self.rows) if slot not in self._live]

    def _occupy(self, slots: list[int], requests: list[ReplyRequest], submitted: int) -> None:
        """Assign requests to the first of ``slots``."""
        self._width = self.rows
        for slot, request in zip(slots, requests, strict=False):
            self._sampler.forget(request.id)
            self._live[slot] = _Row(request, submitted)

    def _note_prefill(self, batch: Sequence[Sized], started: float) -> None:
        self.profile.prompt_tokens += sum(len(request) for request in batch)
        self.profile.prefill_seconds += time.perf_counter() - started

    def _take_all(self, slots: list[int], tokens: list[int]) -> Iterator[Reply]:
        now = time.perf_counter_ns()
        replies = [self._take(slot, token, now) for slot, token in zip(slots, tokens, strict=True)]
        yield from (reply for reply in replies if reply is not None)

    def _advance(self) -> Iterator[Reply]:
        """Decode one more token for every live row."""
        started = time.perf_counter()
        width, live = self._width, len(self._live)
        logits = self._logits(width, self._window())
        ids: list[str | None] = []
        if not self._sampler.greedy:  # None: an idle row
            ids = [self._live[slot].request.id if slot in self._live else None for slot in range(width)]
        chosen, seen = self._choose(logits, ids)
        self._tokens[:width] = chosen
        # Without the clamp an idle row would move past the end of its slot.
        self._positions[:width] = (self._positions[:width] + 1).clamp_(max=self.columns - 1)
        tokens = seen.tolist()  # waits for the device
        now = time.perf_counter_ns()
        replies = {slot: self._take(slot, tokens[slot], now) for slot in list(self._live)}
        ended = [slot for slot, reply in replies.items() if reply is not None]
        if ended:
            self._positions[torch.tensor(ended, device=self.device)] = 0
        self.profile.steps += 1
        self.profile.rows_computed += width
        self.profile.tokens += live
        self.profile.step_seconds += time.perf_counter() - started
        yield from (reply for reply in replies.values() if reply is not None)

    def _logits(self, width: int, window: int) -> torch.Tensor:
        """Return what ``_step`` returns, by a graph if possible."""
        graphs = self.graphs
        if graphs is not None:
            try:
                return graphs(width, window)
            except CannotCaptureError as reason:
                graphs.free()
                self.graphs = None
                self._without_graphs(str(reason))
            finally:
                self.profile.capture_seconds = graphs.capture_seconds
        return self._step(width, window)

    def _step(self, width: int, window: int) -> torch.Tensor:
        """Return the next logits of the first ``width`` rows from their newest tokens; a graph captures this."""
        positions = self._positions[:width]
        self._cache.decode(self._offsets[:width] + positions, window)
        states = self._forward.states(
            self._tokens[:width, None],
            position_ids=positions[:, None],
            past_key_values=self._cache,
            use_cache=True,
            **self._attention.arguments(positions, window),
        )
        return self._forward.logits(states[:, -1])

    def _choose(self, logits: torch.Tensor, ids: list[str | None]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the next tokens, and a copy with ``NO_TOKEN`` where the logits are not finite."""
        best, chosen = logits.max(dim=-1)
        if not self._sampler.greedy:
            chosen = self._sampler.sample(torch.nan_to_num(logits), ids)
        return chosen, torch.where(best.isfinite(), chosen, NO_TOKEN)

    def _take(self, slot: int, token: int, now: int) -> Reply | None:
        """Append a row's token; if it is the last, free the slot and return the reply."""
        row = self._live[slot]
        row.stamps.append(now)
        if token == NO_TOKEN:
            return self._finish(slot, None, error=NOT_FINITE)
        if token in self._ends:
            return self._finish(slot, "eos")
        row.tokens.append(token)
        text = self._stops.cut(row.tokens)
        if text is not None:
            row.tokens.pop()
            return self._finish(slot, "stop", text=text)
        if len(row.tokens) >= self.settings.max_new_tokens:
            return self._finish(slot, "length")
        return None

    def _finish(
        self,
        slot: int,
        finish: Literal["eos", "stop", "length"] | None,
        *,
        text: str | None = None,
        error: str | None = None,
    ) -> Reply:
        row = self._live.pop(slot)
        self._sampler.forget(row.request.id)
        if text is None:
            text = self._loaded.tokenizer.decode(row.tokens, skip_special_tokens=True)
        stamps = tuple(row.stamps)
        return Reply(row.request.id, tuple(row.tokens), text, finish, row.submitted_ns, stamps, error)

    def _window(self) -> int:
        """Return how many columns a step must read, rounded up so that few distinct shapes occur."""
        if self._attention.reads_own_lengths:
            return self.columns
        furthest = max(row.position for row in self._live.values()) + 1
        return min(self.columns, bucket(furthest, COLUMN_STEP))

    def _narrow(self) -> None:
        """Compact the remaining rows when they need no more than half of the width."""
        if not self._live or len(self._live) > self._width // 2:
            return
        width = self._width
        while width // 2 >= len(self._live):
            width //= 2
        remaining = max(self.settings.max_new_tokens - len(row.tokens) for row in self._live.values())
        if self.graphs is not None and remaining < self.graphs.steps_worth_a_capture(width):
            return
        outside = [slot for slot in self._live if slot >= width]
        free = [slot for slot in range(width) if slot not in self._live][: len(outside)]
        if outside:
            source = torch.tensor(outside, device=self.device)
            target = torch.tensor(free, device=self.device)
            self._cache.move(source, target)
            self._tokens[target] = self._tokens[source]
            self._positions[target] = self._positions[source]
            for old, new in zip(outside, free, strict=True):
                self._live[new] = self._live.pop(old)
        self._width = width
