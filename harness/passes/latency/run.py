"""The latency pass: every token of every timed request gets a host time stamp; metrics are computed from them later.

Four workloads, each over the held-out prompts:

- ``fixed``: batch 1, a fixed reply length;
- ``natural``: batch 1, each reply as long as the model makes it;
- ``prefill``: prompts of set lengths and a single token, for TTFT;
- ``sweep``: fixed replies in batches of growing size (one record is one batch in step), until memory ends it.

Variants are interleaved for each prompt in mirrored random order. Warm-up and capture are done before and are timed
apart; what they left on the heap is kept from the garbage collector, which would walk it in the midst of a request.

The records of a unit are written when all its variants and repeats are done, so that an interrupted run never
compares a prompt across two processes.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from harness.backends.local.timed import bare
from harness.dialogues.tokens import encode_prompt
from harness.errors import HarnessError
from harness.machine import busy_warnings, machine_state
from harness.passes.base import PassContext
from harness.passes.latency.facts import find_rooflines, read_facts, tell, write_facts
from harness.passes.latency.records import NO_MEMORY, TASK, Ledger
from harness.passes.latency.units import Question, Stage, Unit, mirrored_orders, plan, stages
from harness.store.schema import LatencyRecord
from harness.variants.model import Variant

EAGER_WARM_UP_TOKENS = 8


@dataclass
class _Session:
    """The pass while it runs. ``ended``: the batch size at which memory ran out, by variant and engine."""

    context: PassContext
    device: str
    ledger: Ledger
    facts: dict[str, Any]
    rooms: dict[str, int]
    order: int
    ended: dict[tuple[str, str], int]
    engines: dict[tuple[str, str], Any] = field(default_factory=dict)
    unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    said: set[tuple[str, str, str]] = field(default_factory=set)


def run(context: PassContext) -> None:
    """Time what is not timed yet; see the module's docstring.

    Raises HarnessError where no prompt fits the context with the fixed reply behind it.
    """
    from harness.backends.local.device import resolve_device

    device = resolve_device(context.config.device)
    units = plan(_question(context), context.config.latency, device)
    if not units:
        reply = context.config.latency.reply_tokens
        raise HarnessError(f"No prompt fits the context with a reply of {reply} tokens. Lower latency.reply_tokens.")
    ledger = Ledger(context, units)
    facts = read_facts(context.folder)
    if ledger.unfinished(units, context.variants):
        _sit(context, device, units, ledger, facts)
    tell(context, facts)


def _sit(context: PassContext, device: str, units: Sequence[Unit], ledger: Ledger, facts: dict[str, Any]) -> None:
    """Time the unfinished units in this process, and note the state of the machine before and after."""
    state = {"before": machine_state(device)}
    facts["machine"].append(state)
    facts.update(find_rooflines(context, device, next((s for s in stages(units) if s.workload == "fixed"), None)))
    rooms: dict[str, int] = {}
    for stage in stages(units):
        rooms[stage.engine] = max(stage.room, rooms.get(stage.engine, 0))
    session = _Session(context, device, ledger, facts, rooms, ledger.next_order, ledger.ended())
    groups = interleaved_groups(context, device)
    facts["interleaved"] = len(groups) == 1
    if not facts["interleaved"]:
        detail = "the variants do not fit into memory together: timed one after another, drift is not cancelled"
        context.event("latency.sequential", {"detail": detail})
    missing = [(group, ledger.unfinished(units, group)) for group in groups]
    total = sum(unit.repeats * len(group) for group, left in missing for unit in left)
    context.progress.start(TASK, total, "requests")
    places = {unit.identity: place for place, unit in enumerate(units)}
    for group, left in missing:
        ledger.drop(left, group)
        for stage in stages(left):
            _warm_up(session, stage, group)
            write_facts(context.folder, facts)
            request = partial(_counted_request, session, stage)
            gc.collect()
            gc.freeze()
            try:
                for unit in stage.units:
                    rng = np.random.default_rng([context.config.seed, places[unit.identity]])
                    ledger.write(time_unit(unit, group, rng, request))
            finally:
                _release(session)
    context.progress.finish(TASK)
    state["after"] = machine_state(device)
    write_facts(context.folder, facts)
    for warning in busy_warnings(state["before"], state["after"]):
        context.event("latency.busy", {"detail": warning})


def time_unit(
    unit: Unit,
    variants: Sequence[Variant],
    rng: np.random.Generator,
    request: Callable[[Unit, Variant, int], LatencyRecord],
) -> dict[str, list[LatencyRecord]]:
    """Time one unit for every variant, interleaved in mirrored random orders; return the records by variant."""
    by_name = {variant.name: variant for variant in variants}
    records: dict[str, list[LatencyRecord]] = {name: [] for name in by_name}
    for repeat, order in enumerate(mirrored_orders(list(by_name), unit.repeats, rng)):
        for name in order:
            records[name].append(request(unit, by_name[name], repeat))
    return records


def interleaved_groups(context: PassContext, device: str) -> list[tuple[Variant, ...]]:
    """Return all variants as one group where their weights fit into memory together, else each by itself."""
    from harness.backends.local.device import free_bytes
    from harness.backends.local.pool import expected_bytes

    sets = {(variant.model, variant.quantization, variant.dtype): variant for variant in context.variants}
    needed = 1.2 * sum(expected_bytes(variant) for variant in sets.values())
    if needed > free_bytes(device):
        context.pool.close()  # some of them may be what takes up the room
    if needed <= free_bytes(device):
        return [context.variants]
    return [(variant,) for variant in context.variants]


def _question(context: PassContext) -> Question:
    with context.pool.use(context.variants[0]) as loaded:
        return Question(
            rows=context.dialogues,
            prompts=tuple(tuple(encode_prompt(loaded.tokenizer, row.prompt)) for row in context.dialogues),
            context=int(loaded.model.config.get_text_config().max_position_embeddings),
            longest_reply=context.config.generation.max_new_tokens,
        )


def _warm_up(session: _Session, stage: Stage, group: Sequence[Variant]) -> None:
    """Run the stage's shapes untimed for every variant, and note how long that took."""
    for variant in group:
        started = time.perf_counter()
        for unit in _shapes(stage):
            for _ in range(session.context.config.latency.warmup):
                _request(session, stage, unit, variant, repeat=0)
        took = session.facts["warm_up"].setdefault(f"{variant.name}/{stage.engine}", {"seconds": 0.0, "setup": 0.0})
        took["seconds"] += time.perf_counter() - started


def _shapes(stage: Stage) -> Iterable[Unit]:
    """Return units that between them make the engine meet every shape of the stage: the longest of each 64 tokens.

    Prompts of another length are multiplied by other kernels, which libraries choose and load at their first use. A
    graph may be captured for each window of columns, so the compiled engine warms up with whole replies.
    """
    from harness.backends.local.batches import COLUMN_STEP

    most = EAGER_WARM_UP_TOKENS if stage.engine == "eager" else stage.units[0].reply_tokens
    by_length = {unit.longest // COLUMN_STEP: unit for unit in sorted(stage.units, key=lambda unit: unit.longest)}
    return [replace(unit, reply_tokens=min(most, unit.reply_tokens)) for unit in by_length.values()]


def _counted_request(session: _Session, stage: Stage, unit: Unit, variant: Variant, repeat: int) -> LatencyRecord:
    record = _request(session, stage, unit, variant, repeat)
    session.order += 1
    session.context.progress.advance(TASK, 1, unit.batch * len(record.stamps_ns))
    return record


def _request(session: _Session, stage: Stage, unit: Unit, variant: Variant, repeat: int) -> LatencyRecord:
    """Make one request. Where memory runs out even with nothing else kept, it ends the variant's sweep."""
    from harness.backends.local.device import is_out_of_memory

    key = session.context.key(TASK, variant, unit.row)
    record = partial(unit.record, key=key, repeat=repeat, order=session.order)
    who = (variant.name, unit.engine)
    for attempt in range(2):
        if unit.batch >= session.ended.get(who, unit.batch + 1):
            break
        fits = True
        try:
            timed = _timed(session, stage, unit, variant)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            fits = False
        if not fits:  # outside the handler, whose error still holds the tensors that did not fit
            _release(session)
            if attempt:
                session.ended[who] = unit.batch
                session.context.event(
                    "latency.out_of_memory", {"variant": who[0], "engine": who[1], "batch": unit.batch}
                )
            continue
        if timed is None:
            return record(skipped=session.unsupported[who])
        return record(submitted_ns=timed.submitted_ns, stamps_ns=timed.stamps_ns)
    return record(error=NO_MEMORY)


def _timed(session: _Session, stage: Stage, unit: Unit, variant: Variant) -> Any:
    """Return the timed request, or None where the engine cannot drive the variant."""
    from harness.backends.local.timed import UnsupportedError

    took = session.facts["warm_up"].setdefault(f"{variant.name}/{stage.engine}", {"seconds": 0.0, "setup": 0.0})
    prompts = [list(prompt) for prompt in unit.prompts]
    with session.context.pool.use(variant) as loaded, bare(loaded.model):
        engine = _engine(session, stage, variant, loaded)
        if engine is None:
            return None
        try:
            while True:
                timed = engine.request(prompts, unit.reply_tokens, natural=unit.workload == "natural", room=stage.room)
                if not timed.setup_seconds:
                    return timed
                took["setup"] += timed.setup_seconds  # a graph was captured in its midst: it is no measurement
        except UnsupportedError as reason:
            _say(session, variant, stage, str(reason))
            session.unsupported[variant.name, stage.engine] = str(reason)
            return None
        finally:
            for note in engine.notes:
                _say(session, variant, stage, note)


def _engine(session: _Session, stage: Stage, variant: Variant, loaded: Any) -> Any:
    """Return the engine that drives this variant, made once; None where it cannot."""
    from harness.backends.local.timed import UnsupportedError, make_engine

    who = (variant.name, stage.engine)
    if who in session.unsupported:
        return None
    if who not in session.engines:
        try:
            session.engines[who] = make_engine(stage.engine, loaded, room=session.rooms[stage.engine])
        except UnsupportedError as reason:
            session.unsupported[who] = str(reason)
            _say(session, variant, stage, str(reason))
            return None
    return session.engines[who]


def _say(session: _Session, variant: Variant, stage: Stage, detail: str) -> None:
    said = (variant.name, stage.engine, detail)
    if said not in session.said:
        session.said.add(said)
        session.context.event("latency.engine", {"variant": said[0], "engine": said[1], "detail": detail})


def _release(session: _Session) -> None:
    """Let go of slots and graphs, so that the next shape finds the memory free."""
    from harness.backends.local.device import release_cached_memory

    session.engines.clear()
    gc.unfreeze()
    release_cached_memory(session.device)
