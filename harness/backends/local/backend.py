"""The reference implementation of ``backends.base``: weights in this process.

Variants of the same base share one set of weights, so all backends of a run share one pool.
"""

from __future__ import annotations

import gc
from collections.abc import Generator, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch

from harness.backends.base import (
    Capability,
    Check,
    ChoiceRequest,
    DecodingSettings,
    Divergence,
    Event,
    Hardware,
    Margin,
    MemoryWorkload,
    Reply,
    ReplyRequest,
    Score,
    ScoringRequest,
    Timed,
    TimedRequest,
)
from harness.backends.local import device as machine
from harness.backends.local.batches import columns_for
from harness.backends.local.device import NO_MEMORY
from harness.backends.local.divergence import Comparison, refuse_other_tokens
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.generate import ignored_settings
from harness.backends.local.joint import JointWork, batches_to_share, joint_groups
from harness.backends.local.limits import footprint, measure_limits
from harness.backends.local.loading import context_length
from harness.backends.local.margins import margins
from harness.backends.local.memory_worker import FreshProcess
from harness.backends.local.merge_errors import weight_errors
from harness.backends.local.pool import LoadedModel, SharedPool, expected_bytes
from harness.backends.local.replies import generate_replies
from harness.backends.local.sampling import end_tokens
from harness.backends.local.sanity import check_variants
from harness.backends.local.scoring import CausalForward, in_batches, negative_log_likelihoods
from harness.backends.local.timed import TimedEngine, UnsupportedError, make_engine
from harness.backends.ranks import WHOLE, Share
from harness.dialogues.tokens import Tokenizer
from harness.progress import EventKind
from harness.results.roofline import Limits
from harness.variants.model import Variant


class LocalBackends:
    """All variants of a run over one pool; see ``Backends`` for its methods.

    ``batch_tokens`` limits a batch (default: by free memory); ``threads`` is torch's number of threads.
    """

    def __init__(
        self,
        variants: Sequence[Variant],
        device: str,
        *,
        event: Event,
        batch_tokens: int | None = None,
        threads: int | None = None,
        pool: SharedPool | None = None,
    ) -> None:
        if threads is not None:
            torch.set_num_threads(threads)
        self.device = device
        self.event = event
        self.batch_tokens = batch_tokens
        self.threads = threads
        self.share = WHOLE
        self.pool = pool or SharedPool(variants, device, event=event)
        self.engines: dict[tuple[str, str], TimedEngine] = {}  # by variant and name
        self._variants = tuple(variants)
        self._waiting: FreshProcess | None = None
        self._backends = {variant.name: LocalBackend(variant, self) for variant in variants}

    @cached_property
    def limits(self) -> Limits:
        return measure_limits(self.device)

    def of(self, variant: Variant) -> LocalBackend:
        return self._backends[variant.name]

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        return check_variants(self._variants, self.pool, allow_base_mismatch=allow_base_mismatch)

    def take(self, share: Share) -> None:
        self.share = share

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        """Return whether the weights of all variants fit into free memory at once; drop loaded ones if they do not."""
        sets = {self.pool.key(variant): variant for variant in variants}
        needed = 1.2 * sum(expected_bytes(variant) for variant in sets.values())
        if needed > machine.free_bytes(self.device):
            self.close()  # some of them may be what fills the memory
        return needed <= machine.free_bytes(self.device)

    def fresh_process(self) -> FreshProcess:
        """Return a process to measure memory in. On CUDA the next one imports its libraries meanwhile.

        On the CPU it would take the cores that the first is timed on while it loads.
        """
        fresh, self._waiting = self._waiting or FreshProcess(), None
        if self.device.startswith("cuda"):
            self._waiting = FreshProcess()
        return fresh

    def release(self) -> None:
        """Objects frozen for timing are unfrozen, so that the garbage collector can free their memory."""
        self.engines.clear()
        gc.unfreeze()
        machine.release_cached_memory(self.device)

    def close(self) -> None:
        self.engines.clear()
        self.pool.close()
        if self._waiting is not None:
            self._waiting.end()
            self._waiting = None


class LocalBackend:
    """One variant of a ``LocalBackends``; see ``Backend`` for its methods."""

    capabilities = frozenset(Capability)
    lacking: Mapping[Capability, str] = {}

    def __init__(self, variant: Variant, among: LocalBackends) -> None:
        self._variant = variant
        self._among = among

    @cached_property
    def context_length(self) -> int:
        return context_length(self._variant.model)

    @property
    def tokenizer(self) -> Tokenizer:
        return self._among.pool.tokenizer(self._variant.model)

    def score(self, requests: Sequence[ScoringRequest]) -> Generator[Score]:
        with self._among.pool.use(self._variant) as loaded, FusedLayers(loaded.model, loaded.device).installed():
            forward = CausalForward(loaded.model)

            def measure(batch: list[ScoringRequest]) -> list[float]:
                return negative_log_likelihoods(forward, batch, loaded.device)

            among = self._among
            for request, nll in in_batches(
                loaded,
                requests,
                measure,
                work="scoring",
                event=among.event,
                batch_tokens=among.batch_tokens,
                share=among.share,
            ):
                yield Score(request.id, nll, None if nll is not None else NO_MEMORY)

    def generate(self, requests: Sequence[ReplyRequest], settings: DecodingSettings) -> Generator[Reply | Score]:
        """References are scored here if this model's prompts are decoded in slots, several at once."""
        event, limit = self._among.event, self._among.batch_tokens
        with self._among.pool.use(self._variant) as loaded, FusedLayers(loaded.model, loaded.device).installed():
            ignored = ignored_settings(loaded.model)
            if ignored:
                event(EventKind.GENERATION_CONFIG_IGNORED, {"variant": self._variant.name, **ignored})
            columns = columns_for(requests, settings)
            if self._among.share.of > 1:
                groups = batches_to_share(requests, loaded.model, loaded.device, columns, limit=limit)
                requests = self._among.share.mark(groups)
            joint = JointWork(
                joint_groups(requests, loaded.model, loaded.device, columns, limit=limit),
                lambda rows, rows_now: event(
                    EventKind.OUT_OF_MEMORY,
                    {"pass": "scoring", "variant": self._variant.name, "rows": rows, "rows_now": rows_now},
                ),
            )
            joint_ids = {prompt.id for prompt in joint.prompts()}
            alone = [request for request in requests if not request.done and request.id not in joint_ids]
            yield from generate_replies(loaded, alone, settings, batch_tokens=limit, event=event, joint=joint)

    def timed(self, request: TimedRequest) -> Timed:
        """If memory runs out, the request is retried once with everything but the weights freed."""
        for _ in range(2):
            try:
                return self._timed(request)
            except (RuntimeError, MemoryError) as error:
                if not machine.is_out_of_memory(error):
                    raise
            # Outside the handler, because its error keeps the tensors that did not fit alive.
            self._among.release()
        return Timed(out_of_memory=True)

    def hardware(self) -> Hardware:
        limits = self._among.limits  # measured before this variant takes memory
        with self._among.pool.use(self._variant) as loaded:
            return Hardware(limits, footprint(loaded.model), machine.total_bytes(self._among.device))

    def divergence(self, against: Variant, requests: Sequence[ScoringRequest]) -> Generator[Divergence]:
        """Both models stay loaded; only the logits of one chunk of one batch are held at a time."""
        among = self._among
        with among.pool.use(against) as theirs, among.pool.use(self._variant) as ours:
            refuse_other_tokens(ours, theirs)
            measure = Comparison(among.pool, self._variant, against).measure
            for request, found in in_batches(
                ours,
                requests,
                measure,
                work="fidelity",
                event=among.event,
                batch_tokens=among.batch_tokens,
                models=2,
                share=among.share,
            ):
                yield found or Divergence(request.id, error=NO_MEMORY)

    def margins(self, requests: Sequence[ChoiceRequest]) -> Generator[Margin]:
        with self._among.pool.use(self._variant) as loaded, FusedLayers(loaded.model, loaded.device).installed():
            forward, ends = CausalForward(loaded.model), sorted(end_tokens(loaded.model, loaded.tokenizer))
            chosen = {one.id: ends if one.chosen is None else [one.chosen] for one in requests}
            asked = [ScoringRequest(one.id, (*one.ids, 0), len(one.ids)) for one in requests if chosen[one.id]]

            def measure(batch: list[ScoringRequest]) -> list[Margin]:
                return margins(forward, batch, chosen, loaded.device)

            among = self._among
            for request, found in in_batches(
                loaded, asked, measure, work="fidelity", event=among.event, batch_tokens=among.batch_tokens
            ):
                yield found or Margin(request.id, error=NO_MEMORY)

    def weight_errors(self, variants: Sequence[Variant]) -> dict[str, Any]:
        errors = weight_errors(self._variant, variants, self._among.pool)
        self._among.pool.files.refuse_changed(variants)
        return errors

    def memory(self, workload: MemoryWorkload) -> dict[str, Any]:
        among = self._among
        found = among.fresh_process().measure(self._variant, among.device, among.threads, workload)
        self._among.pool.files.refuse_changed((self._variant,))
        return found

    def _timed(self, request: TimedRequest) -> Timed:
        with self._among.pool.use(self._variant) as loaded:
            try:
                engine = self._engine(loaded, request)
                timed = engine.request(
                    request.prompts, request.reply_tokens, natural=request.natural, room=request.room
                )
            except UnsupportedError as reason:
                self._note(request.engine, str(reason))
                return Timed(unsupported=str(reason))
            self._pass_on_notes(request.engine, engine)
            return timed

    def _engine(self, loaded: LoadedModel, request: TimedRequest) -> TimedEngine:
        """Return this variant's engine, created once; raise UnsupportedError if it cannot run the variant."""
        key = (self._variant.name, request.engine)
        engines = self._among.engines
        if key not in engines:
            engines[key] = make_engine(request.engine, loaded, room=request.most_room)
            self._pass_on_notes(request.engine, engines[key])
        return engines[key]

    def _pass_on_notes(self, name: str, engine: TimedEngine) -> None:
        while engine.notes:
            self._note(name, engine.notes.pop(0))

    def _note(self, engine: str, detail: str) -> None:
        found = {"variant": self._variant.name, "engine": engine, "detail": detail}
        self._among.event(EventKind.LATENCY_ENGINE, found)
