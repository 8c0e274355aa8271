"""The measurements of a run: every pass over every set, with backends that are opened once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

from harness.backends.base import Backends
from harness.backends.choose import Open
from harness.jobs.prepare import Prepared
from harness.passes.base import Pass, PassContext
from harness.progress import SENTENCES, EventKind, Progress, ShownProgress, SilentProgress
from harness.sets import naming, shown_on
from harness.store.folder import RunFolder
from harness.store.schema import RunManifest, SanityCheck
from harness.time_left import TimeLeft


@dataclass(frozen=True)
class SetRun:
    """A set of a run, its folder and its validated input; the first set's folder is the run's.

    A run without sets has one, whose name is empty.
    """

    name: str
    folder: RunFolder
    prepared: Prepared


SetRuns = tuple[SetRun, ...]


@contextmanager
def measuring(sets: SetRuns, progress: Progress, open_backends: Open) -> Iterator[Measuring]:
    """Open the backends and check the variants. On an error in the block, the records made so far are kept.

    Each set's folder says what was checked and what happens on the way.
    """
    prepared = sets[0].prepared
    config = prepared.config
    work = Measuring(sets, progress)
    work.backends = open_backends(
        prepared.variants, prepared.device, event=work.event, batch_tokens=config.batch_tokens, threads=config.threads
    )
    try:
        prepared.files.refuse_changed(prepared.variants)
        progress.note("Checking the variants before the long passes.")
        checks = work.backends.check(allow_base_mismatch=config.allow_base_mismatch)
        for notes in work.notes.values():
            sanity = tuple(SanityCheck(**asdict(check)) for check in checks)
            notes.manifest = notes.manifest.model_copy(update={"sanity": sanity})
            notes.write()
        yield work
    finally:
        work.backends.close()


class Measuring:
    """A run with open backends. What happens on the way goes to each set's ``notes``, and records to its folder."""

    backends: Backends

    def __init__(self, sets: SetRuns, progress: Progress) -> None:
        self._progress = progress
        self.turn_to(sets)

    def turn_to(self, sets: SetRuns) -> None:
        """From now on measure into the folders of these sets, which may hold notes already."""
        self.sets = sets
        self.notes = {one.name: Notes.continued(one.folder, shown_on(self._progress, one.name)) for one in sets}
        self._under_way: str | None = None

    def event(self, kind: EventKind, detail: Mapping[str, Any]) -> None:
        """Record what a backend tells for the set that it is asked about; before the first pass, for all of them."""
        for name, notes in self.notes.items():
            if self._under_way in (None, name):
                notes.event(kind, detail)

    def do(
        self,
        passes: Sequence[Pass],
        *,
        replied: Callable[[RunFolder, str], None] = lambda folder, variant: None,
        processes: int = 1,
    ) -> None:
        """Run what is unfinished of these passes over every set that asks for them.

        ``replied`` is called with each variant whose replies to a set are complete; ``processes`` share the dialogues
        out.
        """
        left = TimeLeft(processes=processes)
        contexts = {one.name: self._context(one, left, replied, processes) for one in self.sets}
        steps = [(one, part) for one in passes for part in _parts(one, contexts)]
        for one, (name, context) in steps:
            left.turn_to(name, len(context.dialogues))
            names = dict.fromkeys((variant.name for variant in context.variants), 0)
            left.expect(one.name, one.reads(context.variants, context.config) if one.reads else names)
        if isinstance(self._progress, ShownProgress):
            self._progress.time_left = left
        for one, (name, context) in steps:
            self._under_way = name
            left.turn_to(name, len(context.dialogues))
            with naming(name):
                one.measure(context)
            self.notes[name].write()
        if isinstance(self._progress, ShownProgress):
            self._progress.time_left = None

    def _context(
        self, one: SetRun, left: TimeLeft, replied: Callable[[RunFolder, str], None], processes: int
    ) -> PassContext:
        prepared, notes = one.prepared, self.notes[one.name]
        return PassContext(
            folder=notes.folder,
            config=prepared.config,
            variants=prepared.variants,
            dialogues=prepared.dialogues.rows,
            backends=self.backends,
            device=prepared.device,
            progress=notes.progress,
            key=prepared.key,
            event=notes.event,
            fact=notes.facts.__setitem__,
            replied=partial(replied, notes.folder),
            time_left=left,
            processes=processes,
        )


def _parts(one: Pass, contexts: Mapping[str, PassContext]) -> list[tuple[str, PassContext]]:
    """Return what a pass is to measure, in order: over several sets, if it can, a variant on all before the next.

    Where memory does not hold all variants, none is then loaded once for every set.
    """
    asked = [(name, context) for name, context in contexts.items() if one.name in context.config.passes]
    if not one.apart or len(asked) < 2:
        return asked
    variants = asked[0][1].variants
    return [(name, replace(context, variants=(variant,))) for variant in variants for name, context in asked]


@dataclass
class Notes:
    """Events and facts that passes record in addition to their results. Events are written at once, so none is lost."""

    folder: RunFolder
    manifest: RunManifest
    events: list[dict[str, Any]]
    progress: Progress = field(default_factory=SilentProgress)
    facts: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def continued(cls, folder: RunFolder, progress: Progress) -> Notes:
        """Return notes that continue those in the folder."""
        manifest = folder.read_manifest()
        return cls(folder, manifest, list(manifest.events), progress)

    def event(self, kind: EventKind, detail: Mapping[str, Any]) -> None:
        """Record an event unless it is recorded already, e.g. before an interruption."""
        entry = {"kind": kind.value, **detail}
        if entry not in self.events:
            self.events.append(entry)
            self.write()
            if kind in SENTENCES:
                self.progress.note(SENTENCES[kind].format(**detail))

    def write(self, **changes: Any) -> None:
        """Write ``run.json`` with everything recorded so far."""
        recorded = {"events": tuple(self.events), "provenance": {**self.manifest.provenance, **self.facts}}
        self.folder.write_manifest(self.manifest.model_copy(update={**recorded, **changes}))
