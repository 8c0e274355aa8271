"""Several processes measure one run, each its share of the batches, and exchange files alone.

Whoever ends last joins the shards and does what one process does: it measures what is not shared, computes, seals. None
waits for another's share, so the death of one leaves the others to finish theirs, and a folder that can be continued.
The folder's lock is held only to begin and to end; each process holds a lock of its own part meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

from harness.backends.choose import Open, open_backends
from harness.backends.ranks import WHOLE, Share
from harness.config import RunConfig
from harness.errors import HarnessError, InputError
from harness.files import digest_value
from harness.files import locked as lock_held
from harness.jobs.guard import check_belongs, failures_recorded, forget_parts, lock_of, locked, running
from harness.jobs.load_tests import read_load_tests
from harness.jobs.measuring import Measuring, SetRun, SetRuns, measuring
from harness.jobs.runner import (
    are_complete,
    begun,
    compute_all,
    first_manifest,
    passes_of,
    prepare_for,
    scored_ahead,
    show_load_tests,
)
from harness.jobs.runner import run as run_alone
from harness.passes.keys import config_digest
from harness.passes.registry import in_order
from harness.progress import Progress, SilentProgress
from harness.store.folder import RunFolder
from harness.store.provenance import gpu_facts
from harness.store.shards import PLAN, ShardFolder, events_of, join_shards, parts_of

LIMIT = 60.0  # seconds to wait for another process to begin, or to leave once its share is done


def run(
    config: RunConfig,
    out: Path | str,
    share: Share,
    *,
    progress: Progress | None = None,
    config_folder: Path | None = None,
    backends: Open = open_backends,
) -> RunFolder | None:
    """Measure a share of a run into ``out``, and all that is left if it is the last one to be done.

    Returns None where others end the run. Raises what ``runner.run`` raises, and InputError if the other processes
    follow another plan.
    """
    if share.of == 1:
        return run_alone(config, out, progress=progress, config_folder=config_folder, backends=backends)
    progress = progress or SilentProgress()
    load_tests = read_load_tests(config.latency.imported, config_folder)
    sets = prepare_for(RunFolder(out), config, progress, config_folder, backends)
    folder = sets[0].folder
    if are_complete(sets) and share.rank == 0:
        return run_alone(config, out, progress=progress, config_folder=config_folder, backends=backends)
    plan = plan_digest(sets)
    with _joined(sets, share, plan) as parts:
        if parts is None:
            progress.note(f"Nothing is left for {share.words}.")
            return None
        progress.note(f"This is {share.words}: it measures one of every {share.of} batches.")
        part = _part_of(folder, share)
        with failures_recorded(part), measuring(parts, progress, backends) as work:
            work.backends.take(share)
            work.do([one for one in passes_of(sets) if one.shared], processes=share.of)
            with _last(folder, part, share, plan) as last:
                if last:
                    _end(sets, share, work, plan, progress)
                    show_load_tests(folder, load_tests)
                else:
                    progress.note(f"The share of {share.words} is done; the others' is not yet.")
        return folder if last else None


def plan_digest(sets: SetRuns) -> str:
    """Return the digest of what all processes must have in common, for their batches and records to fit together."""
    keys = []
    for one in sets:
        prepared = one.prepared
        keys += [prepared.key(name, variant, row) for name in _shared(one) for variant in prepared.variants
                 for row in prepared.dialogues.rows]  # fmt: skip
    prepared = sets[0].prepared
    gpus = gpu_facts() if prepared.device.startswith("cuda") else []
    kinds = sorted({f"{gpu['name']} {gpu['memory_gib']}" for gpu in gpus})
    return digest_value([config_digest(prepared.whole), kinds, keys])


def _shared(one: SetRun) -> list[str]:
    return [found.name for found in in_order(one.prepared.config.passes) if found.shared]


def _part_of(folder: RunFolder, share: Share) -> ShardFolder:
    return ShardFolder(folder.root, str(share))


@contextmanager
def _joined(sets: SetRuns, share: Share, plan: str) -> Iterator[SetRuns | None]:
    """Begin the run, or join those that have begun it; yield the sets with this part's folders.

    Yields None if this part has nothing left to do.
    """
    folder = sets[0].folder
    part = _part_of(folder, share)
    with ExitStack() as own:

        def nothing_left() -> bool:
            return are_complete(sets) or _is_done(part, plan)

        with ExitStack() as opening:
            if not _opened(opening, folder, nothing_left) or are_complete(sets):
                yield None
                return
            check_belongs(folder, sets[0].prepared.whole)
            others = running(folder)
            busy = f"{folder.root}: {share.words} is running already. Wait for it to finish, or start another part."
            if str(share) in others:
                raise InputError(busy)
            for other in others:
                _refuse_other_run(ShardFolder(folder.root, other), share, plan)

            def keep(one: ShardFolder) -> bool:
                return one.part.endswith(f"-of-{share.of}") and one.follows(plan)

            # The parts of this plan that are done stay done.
            opening.enter_context(begun(sets, afresh=not others, keep=keep))
            own.enter_context(lock_held(lock_of(folder, str(share)), busy))
            parts = tuple(replace(one, folder=_begin_part(one, share, plan)) for one in sets)
        yield parts


def _begin_part(one: SetRun, share: Share, plan: str) -> ShardFolder:
    part = _part_of(one.folder, share)
    earlier = part.read_manifest().events if part.follows(plan) else ()
    manifest = first_manifest(one.prepared)
    digests = {**manifest.digests, PLAN: plan}
    part.write_manifest(manifest.model_copy(update={"digests": digests, "events": earlier}))
    part.begin(plan, _shared(one), [variant.name for variant in one.prepared.variants])
    return part


def _opened(opening: ExitStack, folder: RunFolder, nothing_left: Callable[[], bool]) -> bool:
    """Enter the folder's lock; return False if there is no need to: another process is ending the run."""
    for wait in (1.0, LIMIT):
        try:
            opening.enter_context(locked(folder, wait=wait))
        except InputError:
            if nothing_left():
                return False
            if wait == LIMIT:
                raise
        else:
            return True
    return False


def _refuse_other_run(other: ShardFolder, share: Share, plan: str) -> None:
    rank, _, of = other.part.partition("-of-")
    if int(of) != share.of:
        raise InputError(
            f"{other.root} is being measured by {of} processes, and this is {share.words}. Wait for them to finish, or "
            "choose another --out."
        )
    if not other.follows(plan):
        raise InputError(
            f"{other.root}: process {rank} measures something else than {share.words}: another config, other weights "
            "or dialogues, or another kind of GPU. Start all with the same command on machines of one kind."
        )


def _is_done(part: ShardFolder, plan: str) -> bool:
    return part.follows(plan) and part.read_manifest().state == "complete"


@contextmanager
def _last(folder: RunFolder, part: ShardFolder, share: Share, plan: str) -> Iterator[bool]:
    """Note that this share is done; yield whether all are. Until the block ends, nobody else then uses the folder.

    The others may still be leaving. They are waited for, so that nothing else runs while speed and memory are measured.
    """
    with locked(folder, wait=LIMIT):
        part.write_manifest(part.read_manifest().model_copy(update={"state": "complete"}))
        names = [f"{rank}-of-{share.of}" for rank in range(share.of)]
        last = all(_is_done(ShardFolder(folder.root, name), plan) for name in names)
        if last:
            _await_end(folder, str(share))
        yield last


def _await_end(folder: RunFolder, own: str) -> None:
    until = time.monotonic() + LIMIT
    while left := running(folder, besides=own):
        if time.monotonic() > until:
            raise HarnessError(
                f"{folder.root}: part {left[0]} is done, but its process has not ended within {LIMIT:.0f} s. End it, "
                "and run the same command again."
            )
        time.sleep(0.05)


def _end(sets: SetRuns, share: Share, work: Measuring, plan: str, progress: Progress) -> None:
    """Join the shards, and do what is left as a single process does."""
    with begun(sets, afresh=False), failures_recorded(sets[0].folder), scored_ahead(sets) as ahead:
        for one in sets:
            folder, prepared = one.folder, one.prepared
            join_shards(folder, [variant.name for variant in prepared.variants], plan)
            own, parts = _part_of(folder, share).read_manifest(), parts_of(folder)
            update = {
                "sanity": own.sanity,
                "provenance": {**own.provenance, "processes": len(parts)},
                "events": events_of(folder, *parts),
            }
            folder.write_manifest(folder.read_manifest().model_copy(update=update))
        work.turn_to(sets)
        work.backends.take(WHOLE)
        work.do(passes_of(sets), replied=ahead.begin)
        compute_all(sets, progress, ahead)
    for one in sets:
        forget_parts(one.folder)
