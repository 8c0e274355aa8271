"""The latency pass: every token of every timed request gets a host time stamp; metrics are computed from them later.

Four workloads, each over the held-out prompts:

- ``fixed``: batch 1, a fixed reply length, variants interleaved for each prompt in mirrored random order;
- ``sweep``: the same in batches of growing size (one record is one batch in step), until memory ends it;
- ``prefill``: prompts of set lengths and a single token, for TTFT;
- ``natural``: batch 1, each reply as long as the model makes it.

Warm-up and capture are done before and are timed apart. The records of a prompt are written when all its variants and
repeats are done, so that an interrupted run never compares a prompt across two processes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from harness.engine.machine_state import busy_warnings, machine_state
from harness.engine.roofline import footprint, measure_limits
from harness.errors import HarnessError
from harness.passes.base import PassContext
from harness.passes.latency_plan import batches, choose_prompts, mirrored_orders, prompt_lengths
from harness.store import DialogueRow, LatencyRecord, RecordWriter, read_rows, write_rows
from harness.tokenization import encode_prompt
from harness.variants import Variant

TASK = "latency"
WARMUP_TOKENS = 8
SWEEP_PROMPTS = 8  # batches a size and repeat are built from this many prompts, taken in turn


@dataclass(frozen=True)
class Unit:
    """What is written together: one prompt (or batch) with all its variants and repeats under one workload."""

    workload: str
    engine: str
    name: str
    row: DialogueRow
    prompts: tuple[tuple[int, ...], ...]
    reply_tokens: int
    repeats: int

    @property
    def batch(self) -> int:
        return len(self.prompts)


@dataclass
class _Session:
    """The pass while it runs: engines by variant, and the running number of requests."""

    context: PassContext
    device: str
    engines: dict[tuple[str, str], Any] = field(default_factory=dict)
    order: int = 0


def run(context: PassContext) -> None:
    """Time what is not timed yet; see the module's docstring.

    Raises HarnessError where no prompt fits the context with the fixed reply behind it.
    """
    from harness.engine.device import resolve_device

    device = resolve_device(context.config.device)
    units = plan(context, device)
    todo = [unit for unit in units if not _is_done(context, unit)]
    _drop_unfinished(context, todo)
    if not todo:
        return
    before = machine_state(device)
    session = _Session(context, device)
    _roofline(session)
    rng = np.random.default_rng(context.config.seed)
    groups = interleaved_groups(context, device)
    if len(groups) > 1:
        detail = "the variants do not fit into memory together: timed one after another, drift is not cancelled"
        context.event("latency.sequential", {"detail": detail})
    total = sum(unit.repeats for unit in todo) * len(context.variants)
    context.progress.start(TASK, total, "requests")
    for group in groups:
        _warm_up(session, group, todo)
        for unit in todo:
            _time_unit(session, unit, group, rng)
    context.progress.finish(TASK)
    after = machine_state(device)
    context.fact("machine_state", {"before": before, "after": after})
    for warning in busy_warnings(before, after):
        context.event("latency.busy", {"detail": warning})


def plan(context: PassContext, device: str) -> list[Unit]:
    """Return all units of the pass in the order in which they are timed."""
    settings = context.config.latency
    with context.pool.use(context.variants[0]) as loaded:
        limit = int(loaded.model.config.get_text_config().max_position_embeddings)
        prompts = [tuple(encode_prompt(loaded.tokenizer, row.prompt)) for row in context.dialogues]
    reply = settings.reply_tokens
    chosen = choose_prompts([len(prompt) for prompt in prompts], settings.prompts, limit - reply)
    if not chosen:
        raise HarnessError(
            f"No prompt and reply of {reply} tokens fit the context of {limit}. Lower latency.reply_tokens."
        )
    units = []
    for engine in engines_for(settings.engine, device):
        units += [_unit("fixed", engine, context, prompts, [index], reply, settings.repeats) for index in chosen]
        if settings.natural:
            longest = context.config.generation.max_new_tokens
            fitting = [index for index in chosen if len(prompts[index]) + longest <= limit]
            units += [_unit("natural", engine, context, prompts, [index], longest, 1) for index in fitting]
        units += _prefill_units(engine, context, prompts, chosen, limit)
        for size in settings.batch_sizes or ((1, 4, 16, 64) if device.startswith("cuda") else (1, 4)):
            if size > 1:  # batch 1 is the fixed workload
                rows = batches(chosen[:SWEEP_PROMPTS], size, 1)[0]
                units.append(_unit("sweep", engine, context, prompts, rows, reply, settings.repeats))
    return units


def engines_for(asked: str, device: str) -> tuple[str, ...]:
    """Return which engines are timed: both on CUDA unless one is asked for, and plain ``generate`` on the CPU."""
    if not device.startswith("cuda"):
        return ("eager",)
    return {"auto": ("eager", "compiled"), "both": ("eager", "compiled")}.get(asked, (asked,))


def interleaved_groups(context: PassContext, device: str) -> list[tuple[Variant, ...]]:
    """Return all variants as one group where their weights fit into memory together, else each by itself."""
    from harness.engine.device import free_bytes
    from harness.engine.pool import expected_bytes

    sets = {(variant.model, variant.quantization, variant.dtype): variant for variant in context.variants}
    if sum(expected_bytes(variant) for variant in sets.values()) * 1.2 <= free_bytes(device):
        return [context.variants]
    return [(variant,) for variant in context.variants]


def _unit(
    workload: str,
    engine: str,
    context: PassContext,
    prompts: Sequence[tuple[int, ...]],
    rows: Sequence[int],
    reply: int,
    repeats: int,
) -> Unit:
    first = context.dialogues[rows[0]]
    name = first.id if len(rows) == 1 else f"batch-of-{len(rows)}"
    return Unit(workload, engine, name, first, tuple(prompts[row] for row in rows), reply, repeats)


def _prefill_units(
    engine: str, context: PassContext, prompts: Sequence[tuple[int, ...]], chosen: Sequence[int], limit: int
) -> list[Unit]:
    """Prompts of exactly the asked lengths, made of held-out prompts put one after another and cut."""
    stream = [token for index in chosen for token in prompts[index]]
    settings = context.config.latency
    units = []
    for length in prompt_lengths(limit, settings.prompt_lengths):
        longer = (stream * (length // max(len(stream), 1) + 1))[:length]
        first = context.dialogues[chosen[0]]
        units.append(Unit("prefill", engine, f"prompt-of-{length}", first, (tuple(longer),), 1, settings.repeats))
    return units


def _time_unit(session: _Session, unit: Unit, group: tuple[Variant, ...], rng: np.random.Generator) -> None:
    """Time one unit for every variant of the group and write its records."""
    context = session.context
    by_name = {variant.name: variant for variant in group}
    records: dict[str, list[LatencyRecord]] = {name: [] for name in by_name}
    for repeat, order in enumerate(mirrored_orders(list(by_name), unit.repeats, rng)):
        for name in order:
            records[name].append(_request(session, unit, by_name[name], repeat))
            context.progress.advance(TASK, 1, unit.batch * unit.reply_tokens)
    for name, rows in records.items():
        with RecordWriter(context.folder.records_path(TASK, name)) as writer:
            writer.append(rows)


def _request(session: _Session, unit: Unit, variant: Variant, repeat: int) -> LatencyRecord:
    context = session.context
    session.order += 1
    common: dict[str, Any] = {
        "id": unit.name,
        "key": context.key(TASK, variant, unit.row),
        "workload": unit.workload,
        "engine": unit.engine,
        "batch": unit.batch,
        "repeat": repeat,
        "order": session.order,
    }
    from harness.engine.device import is_out_of_memory, release_cached_memory

    try:
        with context.pool.use(variant) as loaded:
            timed = _engine(session, unit.engine, loaded).request(
                [list(prompt) for prompt in unit.prompts], unit.reply_tokens, natural=unit.workload == "natural"
            )
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        session.engines.clear()
        release_cached_memory(session.device)
        context.event("latency.out_of_memory", {"variant": variant.name, "batch": unit.batch, "engine": unit.engine})
        return LatencyRecord(**common, error="out of memory")
    return LatencyRecord(
        **common, prompt_tokens=timed.prompt_tokens, submitted_ns=timed.submitted_ns, stamps_ns=timed.stamps_ns
    )


def _engine(session: _Session, engine: str, loaded: Any) -> Any:
    """Return the engine that drives this variant, made once."""
    from harness.engine.timed_engines import make_engine

    identity = (engine, loaded.variant.name)
    if identity not in session.engines:
        session.engines[identity] = make_engine(engine, loaded)
    return session.engines[identity]


def _warm_up(session: _Session, group: Iterable[Variant], units: Sequence[Unit]) -> None:
    """Run every (variant, engine, batch) once untimed, and note how long that took (loading, capture, first calls)."""
    context = session.context
    shapes: dict[tuple[str, int, str], Unit] = {}
    for unit in units:
        shapes.setdefault((unit.engine, unit.batch, unit.name if unit.workload == "prefill" else ""), unit)
    took: dict[str, float] = {}
    for variant in group:
        for unit in shapes.values():
            started = time.perf_counter()
            short = Unit(unit.workload, unit.engine, unit.name, unit.row, unit.prompts,
                         min(WARMUP_TOKENS, unit.reply_tokens), 1)  # fmt: skip
            for _ in range(context.config.latency.warmup):
                _request(session, short, variant, 0)
            name = f"{variant.name}/{unit.engine}"
            took[name] = took.get(name, 0.0) + time.perf_counter() - started
    session.order = 0
    context.fact("latency_warmup_seconds", took)


def _roofline(session: _Session) -> None:
    """Measure the machine's limits and each variant's floor under them, for the run's provenance."""
    context = session.context
    limits = measure_limits(session.device)
    settings = context.config.latency
    found: dict[str, Any] = {}
    for variant in context.variants:
        with context.pool.use(variant) as loaded:
            sizes = footprint(loaded.model, adapter=variant.kind == "adapter")
        found[variant.name] = {
            "bandwidth_gb_s": limits.bandwidth_bytes_s / 1e9,
            "matmul_tflops": limits.matmul_flops_s / 1e12,
            "limits_dtype": limits.dtype,
            "weights_bytes": sizes.weights,
            "streamed_bytes": sizes.streamed,
            "adapter_bytes": sizes.adapter,
            "kv_bytes_per_token": sizes.kv_per_token,
            "parameters": sizes.parameters,
            "layers": sizes.layers,
            "hidden": sizes.hidden,
            "floor_ms": 1e3 * sizes.step_floor_s(limits, 1, settings.reply_tokens / 2),
        }
    context.fact("roofline", found)


def _identity(unit: Unit) -> tuple[str, str, str, int]:
    return unit.workload, unit.engine, unit.name, unit.batch


def _is_done(context: PassContext, unit: Unit) -> bool:
    return all(
        sum(_record_identity(record) == _identity(unit) for record in _records(context, variant)) >= unit.repeats
        for variant in context.variants
    )


def _record_identity(record: LatencyRecord) -> tuple[str, str, str, int]:
    return record.workload, record.engine, record.id, record.batch


def _records(context: PassContext, variant: Variant) -> Iterator[LatencyRecord]:
    path = context.folder.records_path(TASK, variant.name)
    if path.exists():
        yield from read_rows(LatencyRecord, path, torn_tail="ignore")


def _drop_unfinished(context: PassContext, todo: Sequence[Unit]) -> None:
    """Forget records of units that will be timed again from their start."""
    again = {_identity(unit) for unit in todo}
    for variant in context.variants:
        rows = list(_records(context, variant))
        kept = [row for row in rows if _record_identity(row) not in again]
        if len(kept) < len(rows):
            write_rows(context.folder.records_path(TASK, variant.name), kept)
