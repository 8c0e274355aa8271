"""One process's part of the latency pass: warming up, interleaving the variants, timing, and the machine's state.

Warm-up and capture come first and are timed separately; the objects they leave are frozen, so that the garbage
collector does not scan them during a request.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from harness.backends.base import TimedRequest
from harness.machine import busy_warnings, machine_state
from harness.passes.base import PassContext
from harness.passes.latency.budget import Step
from harness.passes.latency.facts import find_rooflines, write_facts
from harness.passes.latency.questions import Question
from harness.passes.latency.records import NO_MEMORY, TASK, Ledger
from harness.passes.latency.units import Slot, Stage, Unit, mirrored_orders, stages
from harness.progress import EventKind
from harness.store.schema import LatencyRecord
from harness.variants.model import Variant

Group = tuple[Variant, ...]


@dataclass(frozen=True)
class Order:
    """The seed of the random order of a unit's variants, and whether that order is reversed."""

    seed: tuple[int, ...]
    mirrored: bool = False


def orders(units: Sequence[Unit], asked: Sequence[Question]) -> dict[Slot, Order]:
    """Return the order of each unit, by its first slot.

    Within a budget a unit is timed once, and the unit after it in its question has the mirror image of its order.
    """
    if not asked:
        return {(unit.identity, unit.first): Order((place,)) for place, unit in enumerate(units)}
    return {
        (unit.identity, unit.first): Order((number, place // 2), mirrored=place % 2 == 1)
        for number, question in enumerate(asked)
        for place, unit in enumerate(question.units)
    }


@dataclass
class Session:
    """The state of the pass in this process.

    By variant and engine, ``ended`` is the batch size at which memory ran out, and ``unsupported`` is why the engine
    cannot run the variant. ``warmed`` are the shapes and lengths that need no warm-up.
    """

    context: PassContext
    facts: dict[str, Any]
    ledger: Ledger
    units: Sequence[Unit]
    orders: Mapping[Slot, Order]
    order: int = 0
    ended: dict[tuple[str, str], int] = field(default_factory=dict)
    unsupported: dict[tuple[str, str], str] = field(default_factory=dict)
    warmed: set[tuple[Any, ...]] = field(default_factory=set)
    state: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.order, self.ended = self.ledger.next_order, self.ledger.ended()
        self.rooms: dict[str, int] = {}
        for stage in stages(self.units):
            self.rooms[stage.engine] = max(stage.room, self.rooms.get(stage.engine, 0))

    @property
    def of_server(self) -> bool:
        """Whether a server is timed, and not this machine."""
        return self.units[0].engine == "server"

    def warmed_up(self, group: Group) -> float:
        """Return the seconds that these variants' warm-up took in all sessions."""
        names = {variant.name for variant in group}
        spent = self.facts["warm_up"].items()
        return math.fsum(one["seconds"] for who, one in spent if who.rpartition("/")[0] in names)

    def cold(self, group: Group, stage: Stage) -> list[Unit]:
        """Return the untimed requests to each variant that warming up for this stage takes now."""
        shapes = stage.warm_up.items()
        new = [unit for length, unit in shapes if (group, stage.shape, length) not in self.warmed]
        return [unit for unit in new for _ in range(self.context.config.latency.warmup)]

    def time(self, work: Iterable[tuple[Group, Step]], advance: Callable[[int], None]) -> None:
        """Time the work, if there is any; ``advance`` is told of each request's tokens."""
        try:
            for group, step in work:
                self._begin()
                self._time_step(group, step, advance)
        finally:
            self._release()
        if self.state is None or self.of_server:
            return
        self.state["after"] = machine_state(self.context.device)
        write_facts(self.context.folder, self.facts)
        for warning in busy_warnings(self.state["before"], self.state["after"]):
            self.context.event(EventKind.LATENCY_BUSY, {"detail": warning})

    def _begin(self) -> None:
        if self.state is None:
            self.state = {"before": machine_state(self.context.device)}
            if self.of_server:  # its machine is not this one, or is busy with serving
                return
            self.facts["machine"].append(self.state)
            fixed = (stage for stage in stages(self.units) if stage.workload == "fixed")
            self.facts.update(find_rooflines(self.context, next(fixed, None)))

    def _time_step(self, group: Group, step: Step, advance: Callable[[int], None]) -> None:
        stage = step.stage
        if not any(key[:2] == (group, stage.shape) for key in self.warmed):
            self._release()
        self._warm_up(stage, group)
        write_facts(self.context.folder, self.facts)

        def request(unit: Unit, variant: Variant, repeat: int) -> list[LatencyRecord]:
            records = self._request(stage, unit, variant, repeat)
            self.order += 1
            rows = 1 if self.of_server else unit.batch
            advance(rows * sum(len(record.stamps_ns) for record in records))
            return records

        gc.collect()
        gc.freeze()
        try:
            for unit in stage.units:
                if not step.affords():
                    break
                self.ledger.drop([unit], group)
                self.ledger.write(time_unit(unit, group, self.context.config.seed, self._order_of(unit), request))
        finally:
            gc.unfreeze()
            write_facts(self.context.folder, self.facts)

    def _order_of(self, unit: Unit) -> Order:
        return self.orders[unit.identity, unit.first]

    def _release(self) -> None:
        self.warmed.clear()
        self.context.backends.release()

    def _warm_up(self, stage: Stage, group: Group) -> None:
        """Run the stage's shapes untimed for every variant, and record how long that took."""
        new = self.cold(group, stage)
        for variant in group:
            who = f"{variant.name}/{stage.engine}"
            spent: dict[str, float] = self.facts["warm_up"].setdefault(who, {"seconds": 0.0, "setup": 0.0})
            started = time.perf_counter()
            for unit in new:
                spent["setup"] += sum(one.setup_seconds for one in self._request(stage, unit, variant, repeat=0))
            spent["seconds"] += time.perf_counter() - started
        self.warmed |= {(group, stage.shape, length) for length in stage.warm_up}

    def _request(self, stage: Stage, unit: Unit, variant: Variant, repeat: int) -> list[LatencyRecord]:
        """Make one request, or those of one window at a server.

        If memory runs out even with everything else freed, the variant's sweep ends.
        """
        key = self.context.key(TASK, variant, unit.row)
        record = partial(unit.record, variant.name, key=key, repeat=repeat, order=self.order)
        who = (variant.name, unit.engine)
        if unit.batch >= self.ended.get(who, unit.batch + 1):
            return [record(error=NO_MEMORY)]
        if who in self.unsupported:
            return [record(skipped=self.unsupported[who])]
        timed = self.context.backends.of(variant).timed(
            TimedRequest(
                engine=unit.engine,
                prompts=unit.given_to(variant.name),
                reply_tokens=unit.reply_tokens,
                natural=unit.workload == "natural",
                room=stage.room,
                most_room=self.rooms[unit.engine],
                at_once=unit.batch,
            )
        )
        if timed.each:
            answered = zip(timed.each, unit.given_to(variant.name), strict=True)
            return [
                record(
                    submitted_ns=one.submitted_ns, stamps_ns=one.stamps_ns, error=one.error, prompt_tokens=len(prompt)
                )
                for one, prompt in answered
            ]
        record = partial(record, setup_seconds=timed.setup_seconds)
        if timed.out_of_memory:
            self.ended[who] = unit.batch
            detail = {"pass": TASK, "variant": who[0], "engine": who[1], "batch": unit.batch}
            self.context.event(EventKind.OUT_OF_MEMORY, detail)
            return [record(error=NO_MEMORY)]
        if timed.unsupported is not None:
            self.unsupported[who] = timed.unsupported
            return [record(skipped=timed.unsupported)]
        return [record(submitted_ns=timed.submitted_ns, stamps_ns=timed.stamps_ns, launched_ns=timed.launched_ns)]


def time_unit(
    unit: Unit,
    variants: Sequence[Variant],
    seed: int,
    order: Order,
    request: Callable[[Unit, Variant, int], Sequence[LatencyRecord]],
) -> dict[str, list[LatencyRecord]]:
    """Time one unit for every variant, interleaved in mirrored random orders; return the records by variant."""
    by_name = {variant.name: variant for variant in variants}
    records: dict[str, list[LatencyRecord]] = {name: [] for name in by_name}
    drawn = mirrored_orders(list(by_name), unit.repeats, np.random.default_rng([seed, *order.seed]))
    for repeat, names in enumerate(drawn):
        for name in reversed(names) if order.mirrored else names:
            records[name].extend(request(unit, by_name[name], unit.first + repeat))
    return records
