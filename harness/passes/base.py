"""The definition of a pass and the context it runs in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from harness.backends.base import Backend, Backends, Capability, Event
from harness.config import RunConfig
from harness.progress import EventKind, Progress
from harness.store.folder import RecordWriter, RunFolder
from harness.store.schema import DialogueRow, Record
from harness.time_left import TimeLeft
from harness.variants.model import Variant

AnyRecord = TypeVar("AnyRecord", bound=Record)

# A pass that uses no dialogues keys its records by this row.
FIXED_WORKLOAD = DialogueRow(id="fixed-workload", prompt="")


@dataclass(frozen=True)
class Conditions:
    """What records may depend on besides their variant and dialogue; each pass takes its settings from it.

    ``weights`` maps each variant's name to the digest of all files its results depend on.
    """

    config: RunConfig
    variants: tuple[Variant, ...]
    weights: Mapping[str, str]
    machine: str

    @property
    def too_long(self) -> str | None:
        return self.config.dialogues.too_long if self.config.dialogues else None


@dataclass(frozen=True)
class Pass:
    """One kind of measurement over all variants; ``registry`` finds it by the name that its record declares.

    ``needs`` lists the capabilities that a variant's backend must have. ``settings`` returns everything that keys a
    record besides its variant, template, kind of device and dialogue. ``after`` names passes that run first if both
    are requested. ``uses_dialogues`` is False for a pass with a fixed workload. ``leaves_out`` returns why the pass has
    nothing to measure of a variant, by its name. ``reads``: of a pass that only reads, by variant, how often it reads
    each reference (None: it does other things). ``shared``: several processes may share its dialogues out; any other
    pass is run by the last of them, when the others have ended. ``apart``: each variant is measured by itself, so that
    of a run over several sets one can be measured on all of them while it is loaded.
    """

    record: type[Record]
    needs: frozenset[Capability]
    settings: Callable[[Conditions], Any]
    run: Callable[[PassContext], None]
    after: tuple[str, ...] = ()
    uses_dialogues: bool = True
    needs_references: bool = False
    leaves_out: Callable[[PassContext], Mapping[str, str]] = lambda context: {}
    reads: Callable[[Sequence[Variant], RunConfig], Mapping[str, int]] | None = None
    shared: bool = False
    apart: bool = False

    @property
    def name(self) -> str:
        return self.record.measured_by

    def rows(self, dialogues: Sequence[DialogueRow]) -> Sequence[DialogueRow]:
        """Return the rows that its records are keyed by."""
        return dialogues if self.uses_dialogues else (FIXED_WORKLOAD,)

    def measure(self, context: PassContext) -> None:
        """Run over the variants whose backends have the needed capabilities; record why others are not measured."""
        able = []
        for variant in context.variants:
            backend = context.backends.of(variant)
            lacking = what_lacks(backend, self.needs)
            if lacking is not None:
                self._not_measured(context, variant, lacking)
            else:
                able.append(variant)
        if able:
            narrowed = replace(context, variants=tuple(able))
            reasons = self.leaves_out(narrowed)
            for variant in able:
                if variant.name in reasons:
                    self._not_measured(context, variant, reasons[variant.name])
            self.run(narrowed)
        context.time_left.over(self.name, [variant.name for variant in context.variants])

    def _not_measured(self, context: PassContext, variant: Variant, reason: str) -> None:
        why = f"not measured: {reason}"
        context.progress.note(f"{self.name} {variant.name}: {why}.")
        context.event(EventKind.NOT_MEASURED, {"pass": self.name, "variant": variant.name, "detail": why})
        keys = context.unfinished(self.record, variant, self.rows(context.dialogues))
        with RecordWriter(context.folder.records_path(self.name, variant.name)) as out:
            out.append(self.record(id=row, key=key, skipped=why) for row, key in keys.items())


def what_lacks(backend: Backend, needs: Set[Capability]) -> str | None:
    """Return why a backend cannot do what is needed; None if it can."""
    lacking = sorted(needs - backend.capabilities, key=lambda one: one.value)
    if not lacking:
        return None
    cannot = f"its backend cannot {' or '.join(one.value for one in lacking)}"
    return next(filter(None, map(backend.lacking.get, lacking)), cannot)


@dataclass(frozen=True)
class PassContext:
    """One run, as its passes see it.

    ``key(pass_name, variant, dialogue)`` digests everything a record depends on (weights, adapter, quantisation,
    template, settings, prompt and reference): a record with that key is finished work, any other is ignored.
    ``event(kind, detail)`` records something the report must mention, e.g. a batch halved for lack of memory.
    ``fact(name, value)`` adds something learned about the machine or a variant to the run's provenance.
    ``replied(variant)`` is called when every reply of a variant is on disk. ``processes`` share the dialogues out: each
    asks for all of them, and its backend answers its share.
    """

    folder: RunFolder
    config: RunConfig
    variants: tuple[Variant, ...]
    dialogues: tuple[DialogueRow, ...]
    backends: Backends
    device: str
    progress: Progress
    key: Callable[[str, Variant, DialogueRow], str]
    event: Event
    fact: Callable[[str, Any], None] = lambda name, value: None
    replied: Callable[[str], None] = lambda variant: None
    time_left: TimeLeft = field(default_factory=TimeLeft)
    processes: int = 1

    def unfinished(
        self,
        record: type[AnyRecord],
        variant: Variant,
        rows: Sequence[DialogueRow],
        counts: Callable[[AnyRecord], bool] = lambda found: True,
    ) -> dict[str, str]:
        """Return the key of every row (by id, in order) that has no record on disk yet.

        A record counts only if its key matches: one left by another variant, template or setting does not.
        """
        name = record.measured_by
        found = self.folder.records(record, name, variant.name)
        done = {(one.id, one.key) for one in found if counts(one)}
        keyed = ((row.id, self.key(name, variant, row)) for row in rows)
        return {row: key for row, key in keyed if (row, key) not in done}


class Recording(Generic[AnyRecord]):
    """Writes the records of one variant; within the block each is on disk, and shown as progress, as it arrives.

    ``keys`` maps the ids of rows without a record (in order) to their keys; only records that ``counts`` accepts are
    considered finished. ``on_the_way``: another pass writes these records if it can, so they are shown from the first
    one on.
    """

    def __init__(
        self,
        context: PassContext,
        record: type[AnyRecord],
        variant: Variant,
        rows: Sequence[DialogueRow],
        *,
        task: str | None = None,
        counts: Callable[[AnyRecord], bool] = lambda found: True,
        on_the_way: bool = False,
    ) -> None:
        self.task = task or f"{record.measured_by} {variant.name}"
        self.keys = context.unfinished(record, variant, rows, counts)
        self._done = len(rows) - len(self.keys)
        # Of the open rows, a process that continues may own as many as its whole share.
        self._total = self._done + min(len(self.keys), -(-len(rows) // context.processes))
        self._progress = context.progress
        self._path = context.folder.records_path(record.measured_by, variant.name)
        self._out: RecordWriter | None = None
        self._on_the_way = on_the_way
        self._shown = False

    def write(self, *records: AnyRecord, tokens: int = 0) -> None:
        """Append records; ``tokens`` were read or generated for them."""
        if records:
            self._out = self._out or RecordWriter(self._path)
            self._out.append(records)
            self._show()
            self._progress.advance(self.task, len(records), tokens)

    def _show(self) -> None:
        if not self._shown:
            self._shown = True
            self._progress.start(self.task, self._total)
            self._progress.advance(self.task, self._done)

    def __enter__(self) -> Recording[AnyRecord]:
        if not (self._on_the_way and self.keys):
            self._show()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if self._out is not None:
            self._out.__exit__(kind, *rest)
        if kind is None and self._shown:
            self._progress.finish(self.task)
