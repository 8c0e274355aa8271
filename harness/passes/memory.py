"""The memory pass: each variant in a fresh process with a fixed workload, so that variants do not affect each other."""

from __future__ import annotations

from typing import Any

from harness.backends.base import Capability, MemoryWorkload
from harness.errors import HarnessError
from harness.passes.base import FIXED_WORKLOAD, Conditions, Pass, PassContext
from harness.progress import EventKind
from harness.results.memory import adds_up
from harness.store.folder import RecordWriter
from harness.store.schema import MemoryRecord
from harness.time_left import Work
from harness.variants.model import Variant

FORMER_REPEATS = 2  # the default of 0.1.0, for the keys of its records


def run(context: PassContext) -> None:
    """Measure every variant as often as is needed; existing records are kept.

    Raises HarnessError if a process failed, once the others are done. It left no record, so it is tried again.
    """
    config = context.config.memory
    workload = MemoryWorkload(config.batch, config.prompt_tokens, config.reply_tokens)
    total = sum(len(_missing(context, variant)) for variant in context.variants)
    if not total:
        return
    context.backends.close()  # on a GPU, this process must not hold memory that the fresh ones need
    context.progress.start(PASS.name, total, "processes")
    failures: list[HarnessError] = []
    for variant in context.variants:
        backend, key = context.backends.of(variant), context.key(PASS.name, variant, FIXED_WORKLOAD)
        context.time_left.begin(PASS.name, variant.name, Work(len(_missing(context, variant))))
        with RecordWriter(context.folder.records_path(PASS.name, variant.name)) as writer:
            while missing := _missing(context, variant):  # the first process may show that a second is needed
                try:
                    found = MemoryRecord(id=missing[0], key=key, **backend.memory(workload))
                except HarnessError as failure:
                    failures.append(failure)
                    break
                writer.append([found])
                context.time_left.done()
                context.progress.advance(PASS.name)
                if found.error is not None:
                    detail = {"pass": PASS.name, "variant": variant.name, "detail": found.error}
                    context.event(EventKind.DOES_NOT_FIT, detail)
    context.progress.finish(PASS.name)
    if failures:
        raise failures[0]


def settings(on: Conditions) -> dict[str, Any]:
    repeats = on.config.memory.repeats or FORMER_REPEATS
    found = {**on.config.memory.model_dump(mode="json"), "repeats": repeats}
    return {**found, "machine": on.machine, "threads": on.config.threads}


PASS = Pass(MemoryRecord, needs=frozenset({Capability.MEMORY}), settings=settings, run=run, uses_dialogues=False)


def _missing(context: PassContext, variant: Variant) -> list[str]:
    """Return which repeats are not recorded yet.

    The resident set of a process varies, so the CPU has two by default. What is allocated on CUDA for a fixed workload
    repeats to the byte: there a second process is needed only if the parts of the first do not add up to its peak.
    """
    key = context.key(PASS.name, variant, FIXED_WORKLOAD)
    done = {row.id: row for row in context.folder.records(MemoryRecord, PASS.name, variant.name) if row.key == key}
    repeats = context.config.memory.repeats
    if repeats is None:
        sure = context.device.startswith("cuda") and all(adds_up(row) for row in done.values())
        repeats = 1 if sure else 2
    return [name for name in (f"repeat-{index}" for index in range(repeats)) if name not in done]
