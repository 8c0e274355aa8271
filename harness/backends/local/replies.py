"""Generate replies in the fastest way that is correct for the model; running out of memory halves the batch."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from harness.backends.base import DecodingSettings, Event, Reply, ReplyRequest, Score
from harness.backends.local.batches import batches, columns_for, decoding_rows, longest_first
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.device import NO_MEMORY, is_out_of_memory, release_cached_memory
from harness.backends.local.fused_layers import why_not_fused
from harness.backends.local.generate import generate_batch
from harness.backends.local.graphs import why_no_graphs
from harness.backends.local.joint import JointWork
from harness.backends.local.pool import LoadedModel
from harness.backends.local.rope import batch_depends_on_length, is_encoded_again
from harness.backends.local.selfcheck import why_not
from harness.progress import EventKind

ENCODED_AGAIN = "long rope: some replies pass the length at which its frequencies change, and are encoded again there"


def generate_replies(
    loaded: LoadedModel,
    requests: list[ReplyRequest],
    settings: DecodingSettings,
    *,
    batch_tokens: int | None = None,
    event: Event = lambda kind, detail: None,
    joint: JointWork | None = None,
) -> Iterator[Reply | Score]:
    """Yield a reply for every request, in the order they finish; greedy replies do not depend on that order.

    ``batch_tokens`` limits rows × columns (default: by free memory). ``event`` is called with what the report must
    mention. Requests of ``joint`` get replies too, and their references are scored if this model's prompts are decoded
    in slots, several at once.
    """
    joint = joint or JointWork()
    if not requests and not joint.groups:
        return
    columns = columns_for([*requests, *joint.prompts()], settings)
    by_lengths, obstacle = slot_support(loaded, columns)
    if obstacle is not None or batch_depends_on_length(loaded.model):
        requests = [*requests, *joint.give_up()]
    slow = list(requests)
    if obstacle is None:
        slow = [one for one in requests if is_encoded_again(loaded.model, len(one), settings.max_new_tokens)]
        again = {request.id for request in slow}
        waiting = deque(longest_first([request for request in requests if request.id not in again]))
        yield from _in_slots(loaded, waiting, joint, settings, columns, batch_tokens, event, by_lengths)
    if slow:
        _note_slow(event, loaded, obstacle or ENCODED_AGAIN, "transformers' generate")
        yield from with_generate(loaded, deque(longest_first(slow)), settings, columns, batch_tokens, event)


def slot_support(loaded: LoadedModel, columns: int) -> tuple[bool, str | None]:
    """Return whether slots can be read by their lengths, and why slots cannot be used at all (None if they can)."""
    on_cuda = loaded.device.startswith("cuda")
    if on_cuda and why_not(loaded.model, loaded.device, columns, by_lengths=True) is None:
        return True, None
    return False, why_not(loaded.model, loaded.device, columns, by_lengths=False)


def _in_slots(
    loaded: LoadedModel,
    waiting: deque[ReplyRequest],
    joint: JointWork,
    settings: DecodingSettings,
    columns: int,
    batch_tokens: int | None,
    event: Event,
    by_lengths: bool,
) -> Iterator[Reply | Score]:
    cuda = loaded.device.startswith("cuda")
    graphs = cuda

    def without_graphs(reason: str) -> None:
        nonlocal graphs
        graphs = False
        _note_slow(event, loaded, reason, "slots without CUDA graphs")

    if cuda and (reason := why_no_graphs(loaded.model)) is not None:
        without_graphs(reason)
    without_kernels = why_not_fused(loaded.model, loaded.device) if cuda else None
    if without_kernels is not None:
        _note_slow(event, loaded, without_kernels, "slots without fused kernels")
    wanted = len(waiting) + len(joint.prompts())
    rows = max(1, min(decoding_rows(loaded.model, loaded.device, columns, limit=batch_tokens), wanted))
    if batch_depends_on_length(loaded.model):
        rows = 1
    while waiting or joint.groups:
        decoder: SlotDecoder | None = None
        try:
            decoder = SlotDecoder(
                loaded,
                settings,
                rows=rows,
                columns=columns,
                graphs=graphs,
                by_lengths=by_lengths,
                without_graphs=without_graphs,
            )
            yield from decoder.run(waiting, joint)
            decoder.free()
            return
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        # Outside the handler, because its error keeps the tensors that did not fit alive.
        if decoder is not None:
            waiting.extendleft(reversed(longest_first(decoder.unfinished())))
        decoder = None
        release_cached_memory(loaded.device)
        if rows > 1:
            _note_halved(event, loaded, rows)
            rows //= 2
        elif joint.groups:
            waiting.extend(joint.give_up())
        else:
            yield _no_memory(waiting.popleft())


def with_generate(
    loaded: LoadedModel,
    waiting: deque[ReplyRequest],
    settings: DecodingSettings,
    columns: int,
    batch_tokens: int | None,
    event: Event,
) -> Iterator[Reply]:
    """Yield replies from batches of ``generate``, which take the first of ``waiting``; ``columns`` is their width."""
    rows = decoding_rows(loaded.model, loaded.device, columns, limit=batch_tokens)
    if settings.temperature > 0 or batch_depends_on_length(loaded.model):
        rows = 1
    while waiting:
        batch = next(batches(list(waiting)[:rows], rows * columns))
        try:
            replies = generate_batch(loaded, batch, settings)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        else:
            for _ in batch:
                waiting.popleft()
            yield from replies
            continue
        release_cached_memory(loaded.device)
        if len(batch) == 1:
            yield _no_memory(waiting.popleft())
        else:
            _note_halved(event, loaded, len(batch))
            rows = len(batch) // 2


def _note_slow(event: Event, loaded: LoadedModel, reason: str, engine: str) -> None:
    event(EventKind.SLOW_PATH, {"variant": loaded.variant.name, "reason": reason, "engine": engine})


def _note_halved(event: Event, loaded: LoadedModel, rows: int) -> None:
    detail = {"pass": "generation", "variant": loaded.variant.name, "rows": rows, "rows_now": rows // 2}
    event(EventKind.OUT_OF_MEMORY, detail)


def _no_memory(request: ReplyRequest) -> Reply:
    return Reply(request.id, (), "", None, 0, (), error=NO_MEMORY)
