"""What the latency pass times: units, each timed for all variants and written as a whole, grouped in stages.

A unit is one prompt, or one batch of prompts in lockstep, under one workload on one engine. A stage is a run of units
of the same shape (workload, engine, batch, prompt length), for which an engine warms up and captures once. Variants
are interleaved for each prompt in a random order that is mirrored in the next repeat (A B, then B A), so that a linear
drift over a prompt's repeats affects all variants equally. Nothing here reads a clock, so it can be tested without one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from typing import Any, Literal

import numpy as np

from harness.config import LatencyConfig
from harness.files import digest_value
from harness.store.schema import DialogueRow, LatencyRecord

Workload = Literal["fixed", "natural", "sweep", "prefill"]
Engine = Literal["eager", "compiled", "server"]
Identity = tuple[str, str, str, int]
Slot = tuple[Identity, int]
Prompt = tuple[int, ...]
EAGER_WARM_UP_TOKENS = 8
LENGTH_STEP = 64  # prompts within this many tokens of each other use the same kernels
DEFAULT_BATCHES = {"cuda": (1, 4, 16, 64), "cpu": (1, 4)}


@dataclass(frozen=True)
class Unit:
    """``name`` becomes the records' id: the dialogue's id at batch 1, else a name with a digest of the prompts.

    ``others`` has the prompts as token ids of the variants whose tokenizer is not the first variant's. Its repeats are
    numbered from ``first``: with a budget, one prompt may be several units, each of one repeat.
    """

    workload: Workload
    engine: Engine
    name: str
    row: DialogueRow
    prompts: tuple[Prompt, ...]
    reply_tokens: int
    repeats: int
    others: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)
    first: int = 0
    at_once: int | None = None  # of a server: how many of its prompts are under way at the same time

    @property
    def batch(self) -> int:
        return self.at_once or len(self.prompts)

    @property
    def digest(self) -> str:
        """What tells its prompts from others in its name."""
        return digest_value(self.prompts)[:8]

    @property
    def longest(self) -> int:
        return max(len(prompt) for prompts in (self.prompts, *self.others.values()) for prompt in prompts)

    @property
    def identity(self) -> Identity:
        return self.workload, self.engine, self.name, self.batch

    @property
    def slots(self) -> set[Slot]:
        """The places of its records: its identity with each repeat."""
        return {(self.identity, self.first + repeat) for repeat in range(self.repeats)}

    @property
    def shape(self) -> tuple[str, str, int, int]:
        return self.engine, self.workload, self.batch, self.longest if self.workload == "prefill" else 0

    def given_to(self, variant: str) -> tuple[Prompt, ...]:
        """Return the prompts as token ids of this variant."""
        return self.others.get(variant, self.prompts)

    def record(self, variant: str = "", **found: Any) -> LatencyRecord:
        """Return the record of one request; a batch in lockstep is one request with common stamps.

        ``found`` has its key, repeat and order, and its stamps or why it has none.
        """
        longest = max(len(prompt) for prompt in self.given_to(variant))
        return LatencyRecord(
            id=self.name,
            workload=self.workload,
            engine=self.engine,
            batch=self.batch,
            **{"prompt_tokens": longest, **found},
        )


@dataclass(frozen=True)
class Stage:
    """Units of one shape. ``room`` is the most tokens (prompt and reply) of a row in any unit of that shape."""

    units: tuple[Unit, ...]
    room: int

    @classmethod
    def of(cls, units: Sequence[Unit]) -> Stage:
        return cls(tuple(units), max(unit.longest + unit.reply_tokens for unit in units))

    @property
    def shape(self) -> tuple[str, str, int, int]:
        return self.units[0].shape

    @property
    def engine(self) -> Engine:
        return self.units[0].engine

    @property
    def workload(self) -> Workload:
        return self.units[0].workload

    @property
    def warm_up(self) -> dict[int, Unit]:
        """Units, by length class, that together cover the shapes of this stage: the longest of each 64 tokens.

        Other prompt lengths use other matrix kernels, which libraries choose and load on first use. A graph may be
        captured for each window of columns, so the compiled engine warms up with whole replies. The graph of a single
        prompt is of its exact length: it is captured directly before the first request that needs it.
        """
        most = self.units[0].reply_tokens if self.engine == "compiled" else EAGER_WARM_UP_TOKENS
        by_length = {unit.longest // LENGTH_STEP: unit for unit in sorted(self.units, key=lambda unit: unit.longest)}
        if self.engine == "server":  # which shapes it prepares for is its own affair
            by_length = dict(list(by_length.items())[:1])
        return {length: replace(one, reply_tokens=min(most, one.reply_tokens)) for length, one in by_length.items()}


@dataclass(frozen=True)
class Prompts:
    """The held-out prompts as token ids, and the limits on their length.

    ``ids`` are the first variant's; ``others`` has those of the variants with another tokenizer.
    """

    rows: tuple[DialogueRow, ...]
    ids: tuple[Prompt, ...]
    context: int  # the most tokens that every model accepts
    longest_reply: int  # of the natural workload
    others: Mapping[str, tuple[Prompt, ...]] = field(default_factory=dict)

    @property
    def lengths(self) -> list[int]:
        """The length of each prompt, where it is longest."""
        return [max(map(len, prompts)) for prompts in zip(self.ids, *self.others.values(), strict=True)]

    def taken(self, take: Callable[[Sequence[Prompt]], tuple[Prompt, ...]]) -> dict[str, Any]:
        """Return the prompts of a unit: what is taken of all prompts, the same for every tokenizer."""
        return {"prompts": take(self.ids), "others": {name: take(ids) for name, ids in self.others.items()}}


def slot_of(record: LatencyRecord) -> Slot:
    """Return the identity of the unit that a record belongs to, and its repeat."""
    return (record.workload, record.engine, record.id, record.batch), record.repeat


def engines_for(setting: str, device: str) -> tuple[Engine, ...]:
    """Return which engines are timed; ``auto`` means both on CUDA, and plain ``generate`` on the CPU."""
    if setting == "eager" or (setting == "auto" and not device.startswith("cuda")):
        return ("eager",)
    return ("compiled",) if setting == "compiled" else ("eager", "compiled")


def plan(held_out: Prompts, settings: LatencyConfig, device: str) -> list[Unit]:
    """Return all units in the order in which they are timed; none if no prompt fits with its reply."""
    chosen = choose_prompts(held_out.lengths, settings.prompts, held_out.context - settings.reply_tokens)
    units: list[Unit] = []
    if chosen:
        for engine in engines_for(settings.engine, device):
            units += at_batch_one(held_out, settings, engine, chosen)
            units += of_natural_length(held_out, settings, engine, chosen)
            units += by_prompt_length(held_out, settings, engine, chosen)
            units += in_batches(held_out, settings, engine, chosen, device)
    return units


def stages(units: Sequence[Unit]) -> Iterator[Stage]:
    """Yield the units in runs of one shape, in their order."""
    for _, group in groupby(units, key=lambda unit: unit.shape):
        yield Stage.of(tuple(group))


def at_batch_one(held_out: Prompts, settings: LatencyConfig, engine: Engine, chosen: Sequence[int]) -> Iterator[Unit]:
    """Yield the prompts with a fixed reply length."""
    for index in chosen:
        yield of_indices(held_out, "fixed", engine, [index], settings.reply_tokens, settings.repeats)


def of_natural_length(
    held_out: Prompts, settings: LatencyConfig, engine: Engine, chosen: Sequence[int]
) -> Iterator[Unit]:
    """Yield the prompts that leave room for the longest reply, unless the config leaves natural replies out."""
    lengths = held_out.lengths
    fitting = [index for index in chosen if lengths[index] + held_out.longest_reply <= held_out.context]
    for index in fitting if settings.natural else ():
        yield of_indices(held_out, "natural", engine, [index], held_out.longest_reply, 1)


def by_prompt_length(
    held_out: Prompts, settings: LatencyConfig, engine: Engine, chosen: Sequence[int]
) -> Iterator[Unit]:
    """Yield prompts of exactly the configured lengths, cut from the concatenated held-out prompts."""
    for length in prompt_lengths(held_out.context, settings.prompt_lengths):
        for number in range(min(settings.batches, len(chosen))):
            order = (*chosen[number:], *chosen[:number])
            taken = held_out.taken(partial(_stream, order=order, length=length))
            name = f"prompt-of-{length}-{number}-{digest_value(taken['prompts'][0])[:8]}"
            row = held_out.rows[chosen[number]]
            yield Unit("prefill", engine, name, row, reply_tokens=1, repeats=settings.repeats, **taken)


def in_batches(
    held_out: Prompts, settings: LatencyConfig, engine: Engine, chosen: Sequence[int], device: str
) -> Iterator[Unit]:
    """Yield batches of each configured size, smallest first."""
    sizes = settings.batch_sizes or DEFAULT_BATCHES[device.partition(":")[0]]
    for size in sorted(set(sizes) - {1}):  # batch 1 is the fixed workload
        for number, picks in enumerate(batches(chosen, size, settings.batches)):
            unit = of_indices(held_out, "sweep", engine, picks, settings.reply_tokens, settings.repeats)
            yield replace(unit, name=f"batch-of-{size}-{number}-{unit.digest}")


def of_indices(
    held_out: Prompts, workload: Workload, engine: Engine, picks: Sequence[int], reply_tokens: int, repeats: int
) -> Unit:
    """Return the held-out prompts with these indices as one unit, named after the first."""
    taken = held_out.taken(lambda ids: tuple(ids[pick] for pick in picks))
    row = held_out.rows[picks[0]]
    return Unit(workload, engine, row.id, row, reply_tokens=reply_tokens, repeats=repeats, **taken)


def _stream(ids: Sequence[Prompt], *, order: Sequence[int], length: int) -> tuple[Prompt, ...]:
    """Return one prompt of this length: the prompts in this order, over and over."""
    stream = [token for index in order for token in ids[index]]
    return (tuple((stream * (length // max(len(stream), 1) + 1))[:length]),)


def mirrored_orders(variants: Sequence[str], repeats: int, rng: np.random.Generator) -> list[list[str]]:
    """Return the order of the variants for each repeat: a random one, then its mirror image, and so on."""
    orders: list[list[str]] = []
    for repeat in range(repeats):
        if repeat % 2 == 0:
            orders.append([variants[index] for index in rng.permutation(len(variants))])
        else:
            orders.append(orders[-1][::-1])
    return orders


def choose_prompts(lengths: Sequence[int], count: int, longest: int) -> list[int]:
    """Return the indices of up to ``count`` prompts that fit (``<= longest`` tokens), spread evenly over the lengths.

    They are returned in their original order, which is unrelated to length.
    """
    fitting = sorted((length, index) for index, length in enumerate(lengths) if length <= longest)
    if len(fitting) > count:
        picks = np.linspace(0, len(fitting) - 1, count).round().astype(int)
        fitting = [fitting[pick] for pick in picks]
    return sorted(index for _, index in fitting)


def prompt_lengths(context: int, wanted: Sequence[int] | None) -> list[int]:
    """Return the lengths at which TTFT is measured: ``wanted``, else 32 times powers of four within the context."""
    lengths = wanted or [32, 128, 512, 2048, 8192]
    return sorted({length for length in lengths if length < context})


def batches(items: Sequence[int], size: int, count: int) -> list[list[int]]:
    """Return ``count`` batches of ``size`` items taken in turn, wrapping around at the end."""
    if not items:
        return []
    return [[items[(batch * size + row) % len(items)] for row in range(size)] for batch in range(count)]
