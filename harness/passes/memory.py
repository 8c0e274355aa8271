"""The memory pass: each variant in a fresh process with a fixed workload, so that variants do not affect each other."""

from __future__ import annotations

from typing import Any

from harness.backends.base import Capability, MemoryWorkload
from harness.errors import HarnessError
from harness.passes.base import FIXED_WORKLOAD, Conditions, Pass, PassContext
from harness.progress import EventKind
from harness.store.folder import RecordWriter
from harness.store.schema import MemoryRecord
from harness.time_left import Work
from harness.variants.model import Variant


def run(context: PassContext) -> None:
    """Measure every variant as often as the config says; existing records are kept.

    Raises HarnessError if a process failed, once the others are done. It left no record, so it is tried again.
    """
    config = context.config.memory
    workload = MemoryWorkload(config.batch, config.prompt_tokens, config.reply_tokens)
    missing = {variant.name: _missing(context, variant, config.repeats) for variant in context.variants}
    total = sum(len(names) for names in missing.values())
    if not total:
        return
    context.backends.close()  # on a GPU, this process must not hold memory that the fresh ones need
    context.progress.start(PASS.name, total, "processes")
    failures: list[HarnessError] = []
    for variant in context.variants:
        backend, key = context.backends.of(variant), context.key(PASS.name, variant, FIXED_WORKLOAD)
        context.time_left.begin(PASS.name, variant.name, Work(len(missing[variant.name])))
        with RecordWriter(context.folder.records_path(PASS.name, variant.name)) as writer:
            for name in missing[variant.name]:
                try:
                    found = MemoryRecord(id=name, key=key, **backend.memory(workload))
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
    return {**on.config.memory.model_dump(mode="json"), "machine": on.machine, "threads": on.config.threads}


PASS = Pass(MemoryRecord, needs=frozenset({Capability.MEMORY}), settings=settings, run=run, uses_dialogues=False)


def _missing(context: PassContext, variant: Variant, repeats: int) -> list[str]:
    key = context.key(PASS.name, variant, FIXED_WORKLOAD)
    done = {row.id for row in context.folder.records(MemoryRecord, PASS.name, variant.name) if row.key == key}
    return [name for name in (f"repeat-{index}" for index in range(repeats)) if name not in done]
