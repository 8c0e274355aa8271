"""Where a variant runs: what can be asked of a backend, and the plain values that go there and come back. No torch.

A pass sees this protocol alone. Results arrive one by one, so that each is on disk before the next is awaited; how a
backend gets them (batches, slots, a server's queue) is its own affair. ``local`` is the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal, Protocol

from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError
from harness.progress import EventKind
from harness.results.roofline import Footprint, Limits
from harness.variants.model import Variant


class Capability(Enum):
    """What a backend may be able to do; the value ends the sentence "its backend cannot …"."""

    TOKENS = "take prompts as token ids"
    SCORE = "score references"
    GENERATE = "generate replies"
    JOINT = "score a reference on the way to the reply"
    TIME = "time requests"
    ROOFLINE = "tell the machine's limits"
    DIVERGENCE = "compare distributions over tokens"
    WEIGHTS = "read the weights"
    MEMORY = "measure memory"


# Notes what the report must say, e.g. a batch halved after running out of memory.
Event = Callable[[EventKind, Mapping[str, Any]], None]


class DoesNotFitError(HarnessError):
    """A model is too large for the memory that is left beside what is in use."""


class NotComparableError(HarnessError):
    """Two variants whose distributions are over different tokens."""


@dataclass(frozen=True)
class ScoringRequest:
    """Token ids of prompt and reference; the reference begins at ``context`` (at least 1).

    One that is ``done`` gets no answer. It is there because requests read together change each other's sums in the
    seventh digit: with the finished ones, a run that goes on forms the batches of one that was never interrupted.
    """

    id: str
    ids: tuple[int, ...]
    context: int
    done: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reference(self) -> tuple[int, ...]:
        return self.ids[self.context :]


@dataclass(frozen=True)
class ReplyRequest:
    """One prompt, as token ids. One that is ``done`` has its reply, and is there for its reference's sake.

    ``reference`` may be given where the backend has ``Capability.JOINT`` and its ids begin with the prompt's: as far as
    one forward can do for both, it is scored on the way.
    """

    id: str
    ids: tuple[int, ...]
    reference: ScoringRequest | None = None
    done: bool = False

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class DecodingSettings:
    """How replies are made. ``fixed_length``: exactly ``max_new_tokens``, whatever ends a reply otherwise."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    fixed_length: bool = False


@dataclass(frozen=True)
class TimedRequest:
    """A batch of prompts answered in step by one of the ways a backend can be driven (``engine``).

    ``natural``: each reply ends where the model ends it. A row of any request of this shape holds at most ``room``
    tokens, prompt and reply, and one of any request to this engine ``most_room``.
    """

    engine: str
    prompts: tuple[tuple[int, ...], ...]
    reply_tokens: int
    natural: bool
    room: int
    most_room: int


@dataclass(frozen=True)
class MemoryWorkload:
    """What a fresh process runs to see what it takes."""

    batch: int
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True)
class Score:
    """−log p of a request's reference in nats, summed (perhaps no number), or why there is none."""

    id: str
    nll: float | None
    error: str | None = None


@dataclass(frozen=True)
class Reply:
    """What a request got: its tokens without the one that ended it, and when each was on the host.

    ``stamps_ns`` holds the time of every token made, the ending one included, on ``time.perf_counter_ns``'s clock.
    """

    id: str
    tokens: tuple[int, ...]
    text: str
    finish: Literal["eos", "stop", "length"] | None
    submitted_ns: int
    stamps_ns: tuple[int, ...]
    error: str | None = None


@dataclass(frozen=True)
class Timed:
    """One request (or one batch of them in step). ``stamps_ns[i]``: when every row's token i was on the host.

    ``tokens`` are each row's. ``setup_seconds`` went into what is done once for a shape, apart from the stamps.
    ``unsupported`` says why the engine cannot drive the variant; where memory ran out, there is no stamp either.
    """

    submitted_ns: int = 0
    stamps_ns: tuple[int, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    setup_seconds: float = 0.0
    unsupported: str | None = None
    out_of_memory: bool = False


@dataclass(frozen=True)
class Divergence:
    """Two variants over one reference. ``kl`` is KL(against ‖ variant) in nats at each of its tokens.

    ``agree`` counts the positions with the same most likely token; ``max_abs_dlogp`` is the largest |Δ log p| of a
    reference token; the nlls are sums over the reference. Where there is an ``error``, the numbers mean nothing.
    """

    id: str
    kl: tuple[float, ...] = ()
    agree: int = 0
    max_abs_dlogp: float = 0.0
    nll: float = 0.0
    nll_against: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class MemoryReply:
    """What a fresh process took; ``found`` holds ``MemoryRecord``'s fields, sizes in MiB, or ``error`` alone."""

    found: Mapping[str, Any]


@dataclass(frozen=True)
class Hardware:
    """What bounds a variant's speed here: the machine's measured limits, its own bytes, the device's memory."""

    limits: Limits
    footprint: Footprint
    memory_bytes: int


@dataclass(frozen=True)
class Check:
    """One check that was made of a variant; ``ok`` is False for a mismatch that was allowed."""

    name: str
    variant: str
    ok: bool
    detail: str


class Backend(Protocol):
    """Where one variant runs. What is not among its ``capabilities`` is never asked of it."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def context_length(self) -> int:
        """How many tokens the model takes, prompt and reply (a very large number where it states none)."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Variants with equal tokenizers share one object. None without ``Capability.TOKENS``."""
        ...

    def score(self, requests: Sequence[ScoringRequest]) -> Generator[Score]:
        """Yield the score of every request that is not done."""
        ...

    def generate(self, requests: Sequence[ReplyRequest], settings: DecodingSettings) -> Generator[Reply | Score]:
        """Yield a reply for every request that is not done, as they finish, and scores of references on the way.

        A reference that gets no score here has to be scored by itself.
        """
        ...

    def timed(self, request: TimedRequest) -> Timed:
        """Answer a batch in step, alone on the machine. What is set up for its shape is kept until ``release``."""
        ...

    def hardware(self) -> Hardware:
        """Return what rooflines are made of."""
        ...

    def divergence(self, against: Variant, requests: Sequence[ScoringRequest]) -> Generator[Divergence]:
        """Yield for every request that is not done how far this variant is from ``against``.

        Raises DoesNotFitError where both cannot be held at once, NotComparableError where their tokens differ.
        """
        ...

    def weight_errors(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Return how well this merged variant kept what one of ``variants`` had learned, or why that is unknown."""
        ...

    def memory(self, workload: MemoryWorkload) -> MemoryReply:
        """Measure in a fresh process; raise HarnessError where it died without an answer."""
        ...


class Backends(Protocol):
    """The backends of one run. Those that share weights or a card know of each other."""

    def of(self, variant: Variant) -> Backend:
        """Return where a variant runs."""
        ...

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        """Return a row for every check of the variants; raise InputError at the first that fails.

        With ``allow_base_mismatch`` a base, tokenizer or digest that differs from the recorded one is a row, not ok.
        """
        ...

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        """Tell whether these variants can be held at once, so that requests to them can be interleaved."""
        ...

    def release(self) -> None:
        """Let go of what ``timed`` set up, so that the next shape finds the memory free."""
        ...

    def close(self) -> None:
        """Let go of everything; what is asked afterwards is loaded again."""
        ...
