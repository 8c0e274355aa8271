"""The processes that ``torchrun`` or ``accelerate launch`` started to train together.

Rank 0 does everything that one process would do: it checks, locks, logs, saves and merges. The others only train, when
it asks them to. If it fails they end with it, because its connections close; the time they wait is limited anyway.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from harness.errors import HarnessError, InputError, first_line

Found = TypeVar("Found")
LONGEST_STEP = timedelta(minutes=30)  # torch's own default for a collective
LONGEST_WAIT = timedelta(hours=6)  # while rank 0 reads the data, or merges
LAUNCHED = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
LOST = ("Connection closed by peer", "Connection reset by peer", "Timed out", "Broken pipe")


@dataclass(frozen=True)
class Ranks:
    """This process among those that train together; a single one by default. Use as made by ``joined``."""

    rank: int = 0
    world: int = 1
    waiting: Any = None  # the process group in which the others wait for rank 0

    def lead(self, work: Callable[[], Found]) -> Found:
        """On rank 0, do the work; elsewhere help until it is done. Return its result everywhere.

        Raises HarnessError where another process ended before the work was done.
        """
        with self._others_alive():
            if self.rank == 0:
                found = work()
                self._tell((None, (found,)))
                return found
            while True:
                function, arguments = self._told()
                if function is None:
                    result: Found = arguments[0]
                    return result
                function(*arguments)

    def ask(self, function: Callable[..., object], *arguments: Any) -> None:
        """On rank 0 within ``lead``, make the others call a function of a module; the caller then calls it itself."""
        self._tell((function, arguments))

    def _tell(self, message: tuple[Any, tuple[Any, ...]]) -> None:
        if self.world > 1:
            from torch import distributed

            distributed.broadcast_object_list([message], src=0, group=self.waiting)

    def _told(self) -> tuple[Any, tuple[Any, ...]]:
        from torch import distributed

        message: list[Any] = [None]
        distributed.broadcast_object_list(message, src=0, group=self.waiting)
        found: tuple[Any, tuple[Any, ...]] = message[0]
        return found

    @contextmanager
    def _others_alive(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            if self.world > 1 and any(words in str(error) for words in LOST):
                raise HarnessError(
                    f"Rank {self.rank} of {self.world} lost another process of this training, whose message says why "
                    f"({first_line(error, 100)}). Run the same command to continue from the last checkpoint."
                ) from error
            raise


ALONE = Ranks()


def started_first() -> bool:
    """Return whether this process is alone or rank 0 of those started together; known without torch."""
    return int(os.environ.get("RANK", "0")) == 0


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Connect the processes that were started together to train on a recipe's ``device``.

    Raises InputError if they cannot each have a device.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield ALONE
        return
    import torch
    from torch import distributed

    on_gpus = device != "cpu" and torch.cuda.is_available()
    if on_gpus:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if ":" in device:
            raise InputError(f"device: {device} names one GPU for {world} processes. Use device: cuda.")
        if local >= torch.cuda.device_count():
            seen = torch.cuda.device_count()
            raise InputError(f"Process {local} of this host has no GPU: torch sees {seen}. Start fewer processes.")
        torch.cuda.set_device(local)
    # Objects, and the states that FSDP collects on the CPU, travel by gloo.
    distributed.init_process_group("cuda:nccl,cpu:gloo" if on_gpus else "gloo", timeout=LONGEST_STEP)
    yield Ranks(distributed.get_rank(), world, distributed.new_group(backend="gloo", timeout=LONGEST_WAIT))
    distributed.destroy_process_group()


@contextmanager
def environment(*, alone: bool) -> Iterator[None]:
    """Restore the environment after the block, which accelerate changes; ``alone``: hide the launcher from it."""
    before = dict(os.environ)
    if alone:
        for name in LAUNCHED:
            os.environ.pop(name, None)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
