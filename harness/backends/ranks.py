"""The processes that measure one run together: which of them this is, and which requests are its share.

They exchange files alone. accelerate's ``PartialState`` knows rank and device too, but it opens a process group, in
which each waits for the slowest and none survives the death of another; so the launcher's variables are read here.
Slurm's are not: a batch script has them too, even where it starts a single process. There ``--shard`` says it.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from harness.backends.base import ReplyRequest, ScoringRequest
from harness.errors import InputError

Asked = TypeVar("Asked", ScoringRequest, ReplyRequest)


@dataclass(frozen=True)
class Share:
    """One of ``of`` processes, counted from 0: every ``of``-th batch of those that one process would form."""

    rank: int = 0
    of: int = 1
    local: int | None = None  # which process of its host this is, if a launcher started it

    def __str__(self) -> str:
        return f"{self.rank}-of-{self.of}"

    @property
    def words(self) -> str:
        """Its name in sentences."""
        return f"process {self.rank} of {self.of} (counted from 0)"

    def mark(self, batches: Iterable[Sequence[Asked]]) -> list[Asked]:
        """Return the requests of all batches in order, with those of other processes' batches marked as done."""
        return [
            request if index % self.of == self.rank else _as_done(request)
            for index, batch in enumerate(batches)
            for request in batch
        ]

    def of_single(self, requests: Iterable[Asked]) -> list[Asked]:
        """Return its share of what is not done, for a backend that answers each request on its own."""
        return [request for request in self.mark([one] for one in requests) if not request.done]


WHOLE = Share()


def _as_done(request: Asked) -> Asked:
    if isinstance(request, ReplyRequest) and request.reference is not None:
        return replace(request, done=True, reference=replace(request.reference, done=True))
    return replace(request, done=True)


def share_of(shard: str | None) -> Share:
    """Return the share that ``--shard I/N`` names, else that of the launcher (``torchrun``, ``accelerate launch``).

    Raises InputError if it is not written like that, or if a launcher started several processes as well.
    """
    launched = _launched()
    if shard is None:
        return launched
    if launched.of > 1:
        raise InputError(f"--shard {shard}: a launcher started {launched.of} processes already. Omit --shard.")
    rank, _, of = shard.partition("/")
    if not (rank.isdecimal() and of.isdecimal() and int(rank) < int(of)):
        raise InputError(f"--shard {shard}: write it as I/N with I from 0 to N - 1, e.g. 0/4, 1/4, 2/4 and 3/4.")
    return Share(int(rank), int(of))


def _launched() -> Share:
    world = os.environ.get("WORLD_SIZE", "1")
    if not world.isdecimal() or int(world) < 2 or "RANK" not in os.environ:
        return WHOLE
    return Share(int(os.environ["RANK"]), int(world), int(os.environ.get("LOCAL_RANK", "0")))
