"""The latency pass: every token of every timed request gets a host timestamp; metrics are computed from them later.

Four workloads, each over the held-out prompts:

- ``fixed``: batch 1, a fixed reply length;
- ``natural``: batch 1, each reply as long as the model makes it;
- ``prefill``: prompts of set lengths and a single token, for TTFT;
- ``sweep``: fixed replies in batches of growing size (one record per batch in lockstep), until memory runs out.

Variants are interleaved for each prompt in mirrored random order. Warm-up and capture come first and are timed
separately; the objects they leave are frozen, so that the garbage collector does not scan them during a request.

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

from harness.backends.base import Capability, TimedRequest
from harness.errors import HarnessError
from harness.machine import busy_warnings, machine_state
from harness.passes.base import Conditions, Pass, PassContext
from harness.passes.latency.facts import find_rooflines, publish, read_facts, write_facts
from harness.passes.latency.records import NO_MEMORY, TASK, Ledger
from harness.passes.latency.units import Prompts, Stage, Unit, mirrored_orders, plan, stages
from harness.passes.plans import EncodedOnce, encode_dialogue_prompt, tokenizer_of
from harness.progress import EventKind
from harness.store.schema import LatencyRecord
from harness.time_left import Work
from harness.variants.model import Variant

EAGER_WARM_UP_TOKENS = 8
LENGTH_STEP = 64  # prompts within this many tokens of each other use the same kernels and graphs


@dataclass
class _Session:
    """The state of the pass in this process.

    By variant and engine, ``ended`` is the batch size at which memory ran out, and ``unsupported`` is why the engine
    cannot run the variant.
    """

    context: PassContext
    facts: dict[str, Any]
    rooms: dict[str, int]
    order: int
    ended: dict[tuple[str, str], int]
    unsupported: dict[tuple[str, str], str] = field(default_factory=dict)

    def warm_up(self, who: tuple[str, str]) -> dict[str, float]:
        """Return the preparation times of a variant and engine, to be added to."""
        spent: dict[str, float] = self.facts["warm_up"].setdefault("/".join(who), {"seconds": 0.0, "setup": 0.0})
        return spent


def run(context: PassContext) -> None:
    """Time the unfinished units; see the module's docstring.

    Raises HarnessError if no prompt fits into the context together with the fixed reply.
    """
    units = plan(_prompts(context), context.config.latency, context.device)
    if not units:
        reply = context.config.latency.reply_tokens
        raise HarnessError(f"No prompt fits the context with a reply of {reply} tokens. Lower latency.reply_tokens.")
    ledger = Ledger(context, units)
    facts = read_facts(context.folder)
    if ledger.unfinished(units, context.variants):
        _time_units(context, units, ledger, facts)
    publish(context, facts)


def settings(on: Conditions) -> dict[str, Any]:
    return {
        **on.config.latency.model_dump(mode="json"),
        "longest": on.config.generation.max_new_tokens,
        "machine": on.machine,
        "threads": on.config.threads,
    }


PASS = Pass(LatencyRecord, needs=frozenset({Capability.TOKENS, Capability.TIME}), settings=settings, run=run)


def _time_units(context: PassContext, units: Sequence[Unit], ledger: Ledger, facts: dict[str, Any]) -> None:
    """Time the unfinished units in this process, and record the machine's state before and after."""
    state = {"before": machine_state(context.device)}
    facts["machine"].append(state)
    facts.update(find_rooflines(context, next((s for s in stages(units) if s.workload == "fixed"), None)))
    rooms: dict[str, int] = {}
    for stage in stages(units):
        rooms[stage.engine] = max(stage.room, rooms.get(stage.engine, 0))
    session = _Session(context, facts, rooms, ledger.next_order, ledger.ended())
    together = context.backends.fit_together(context.variants)
    groups = [context.variants] if together else [(variant,) for variant in context.variants]
    facts["interleaved"] = len(groups) == 1
    if not facts["interleaved"]:
        detail = "the variants do not fit into memory together: timed one after another, drift does not cancel"
        context.event(EventKind.LATENCY_SEQUENTIAL, {"detail": detail})
    missing = [(group, ledger.unfinished(units, group)) for group in groups]
    total = sum(unit.repeats * len(group) for group, left in missing for unit in left)
    context.progress.start(TASK, total, "requests")
    context.time_left.begin(PASS.name, "", Work(total))
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
                gc.unfreeze()
                context.backends.release()
    context.progress.finish(TASK)
    state["after"] = machine_state(context.device)
    write_facts(context.folder, facts)
    for warning in busy_warnings(state["before"], state["after"]):
        context.event(EventKind.LATENCY_BUSY, {"detail": warning})


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


def _prompts(context: PassContext) -> Prompts:
    backends = {variant.name: context.backends.of(variant) for variant in context.variants}
    tokenizers = {name: tokenizer_of(backend) for name, backend in backends.items()}
    encode = EncodedOnce(encode_dialogue_prompt)
    ids = {
        name: tuple(tuple(encode(tokenizer, row)[0]) for row in context.dialogues)
        for name, tokenizer in tokenizers.items()
    }
    first = context.variants[0].name
    return Prompts(
        rows=context.dialogues,
        ids=ids[first],
        context=min(backend.context_length for backend in backends.values()),
        longest_reply=context.config.generation.max_new_tokens,
        others={name: ids[name] for name, tokenizer in tokenizers.items() if tokenizer is not tokenizers[first]},
    )


def _warm_up(session: _Session, stage: Stage, group: Sequence[Variant]) -> None:
    """Run the stage's shapes untimed for every variant, and record how long that took."""
    for variant in group:
        started = time.perf_counter()
        for unit in _shapes(stage):
            for _ in range(session.context.config.latency.warmup):
                _request(session, stage, unit, variant, repeat=0)
        session.warm_up((variant.name, stage.engine))["seconds"] += time.perf_counter() - started


def _shapes(stage: Stage) -> Iterable[Unit]:
    """Return units that together cover every shape of the stage: the longest of each 64 tokens.

    Other prompt lengths use other matrix kernels, which libraries choose and load on first use. A graph may be captured
    for each window of columns, so the compiled engine warms up with whole replies.
    """
    most = EAGER_WARM_UP_TOKENS if stage.engine == "eager" else stage.units[0].reply_tokens
    by_length = {unit.longest // LENGTH_STEP: unit for unit in sorted(stage.units, key=lambda unit: unit.longest)}
    return [replace(unit, reply_tokens=min(most, unit.reply_tokens)) for unit in by_length.values()]


def _counted_request(session: _Session, stage: Stage, unit: Unit, variant: Variant, repeat: int) -> LatencyRecord:
    record = _request(session, stage, unit, variant, repeat)
    session.order += 1
    session.context.time_left.done()
    session.context.progress.advance(TASK, 1, unit.batch * len(record.stamps_ns))
    return record


def _request(session: _Session, stage: Stage, unit: Unit, variant: Variant, repeat: int) -> LatencyRecord:
    """Make one request. If memory runs out even with everything else freed, the variant's sweep ends."""
    key = session.context.key(TASK, variant, unit.row)
    record = partial(unit.record, variant.name, key=key, repeat=repeat, order=session.order)
    who = (variant.name, unit.engine)
    if unit.batch >= session.ended.get(who, unit.batch + 1):
        return record(error=NO_MEMORY)
    if who in session.unsupported:
        return record(skipped=session.unsupported[who])
    timed = session.context.backends.of(variant).timed(
        TimedRequest(
            engine=unit.engine,
            prompts=unit.given_to(variant.name),
            reply_tokens=unit.reply_tokens,
            natural=unit.workload == "natural",
            room=stage.room,
            most_room=session.rooms[unit.engine],
        )
    )
    session.warm_up(who)["setup"] += timed.setup_seconds
    if timed.out_of_memory:
        session.ended[who] = unit.batch
        detail = {"pass": TASK, "variant": who[0], "engine": who[1], "batch": unit.batch}
        session.context.event(EventKind.OUT_OF_MEMORY, detail)
        return record(error=NO_MEMORY)
    if timed.unsupported is not None:
        session.unsupported[who] = timed.unsupported
        return record(skipped=timed.unsupported)
    return record(submitted_ns=timed.submitted_ns, stamps_ns=timed.stamps_ns)
