"""The backend protocol: what a pass may ask of the place a variant runs, and the plain values exchanged. No torch.

Passes use nothing but this protocol. Results arrive one by one, so that each is on disk before the next is awaited;
how a backend produces them (batches, slots, a server's queue) is up to it. ``local`` is the reference implementation.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, Protocol

from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError
from harness.progress import EventKind
from harness.results.roofline import Footprint, Limits
from harness.variants.model import Variant

if TYPE_CHECKING:
    from harness.backends.ranks import Share


class Capability(Enum):
    """What a backend may support; each value completes the sentence "its backend cannot …"."""

    TOKENS = "take prompts as token ids"
    SCORE = "score references"
    GENERATE = "generate replies"
    JOINT = "score a reference while generating the reply"
    TIME = "time requests"
    ROOFLINE = "report the machine's limits"
    DIVERGENCE = "compare distributions over tokens"
    MARGINS = "say how sure it is of a token"
    WEIGHTS = "read the weights"
    MEMORY = "measure memory"


# Records an event for the report, e.g. that a batch was halved after running out of memory.
Event = Callable[[EventKind, Mapping[str, Any]], None]


class DoesNotFitError(HarnessError):
    """A model is too large for the free memory."""


class NotComparableError(HarnessError):
    """Two variants whose distributions are over different tokens."""


@dataclass(frozen=True)
class ScoringRequest:
    """Token ids of prompt and reference; the reference begins at ``context`` (at least 1).

    A request that is ``done`` gets no answer. It is included because requests in one batch change each other's sums in
    the seventh digit: with the finished ones, a resumed run forms the same batches as an uninterrupted one.
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
    """One prompt, as token ids. A request that is ``done`` already has its reply and is included for its reference.

    ``messages`` is the conversation behind a chat template's prompt, for a server that takes nothing else.

    ``reference`` may be given where the backend has ``Capability.JOINT`` and its ids begin with the prompt's. It is
    scored along with the reply where one forward pass can serve both.
    """

    id: str
    ids: tuple[int, ...]
    reference: ScoringRequest | None = None
    done: bool = False
    messages: tuple[Mapping[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class ChoiceRequest:
    """The token ids of a prompt and of what is undisputed of its reply, and the token that was ``chosen`` next.

    ``chosen`` is None where the reply was ended.
    """

    id: str
    ids: tuple[int, ...]
    chosen: int | None


@dataclass(frozen=True)
class DecodingSettings:
    """How replies are generated. With ``fixed_length`` each has exactly ``max_new_tokens`` tokens, never fewer."""

    max_new_tokens: int
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0
    fixed_length: bool = False


@dataclass(frozen=True)
class TimedRequest:
    """A batch of prompts answered in lockstep by one of the backend's engines.

    With ``natural`` each reply ends where the model ends it. ``room`` is the most tokens (prompt and reply) of a row in
    any request of this shape; ``most_room`` is the same over all requests to this engine.

    At a server, each prompt is a request of its own: ``at_once`` are under way at any time, until all are answered.
    """

    engine: str
    prompts: tuple[tuple[int, ...], ...]
    reply_tokens: int
    natural: bool
    room: int
    most_room: int
    at_once: int = 1


@dataclass(frozen=True)
class MemoryWorkload:
    """What a fresh process runs so that its memory use can be measured."""

    batch: int
    prompt_tokens: int
    reply_tokens: int


@dataclass(frozen=True)
class Score:
    """The summed −log p of a request's reference in nats (possibly NaN), or why there is none."""

    id: str
    nll: float | None
    error: str | None = None


@dataclass(frozen=True)
class Reply:
    """The reply to a request: its tokens without the one that ended it, and when each reached the host.

    ``stamps_ns`` has the time of every generated token, including the ending one, from ``time.perf_counter_ns``; it is
    empty where only the whole reply was seen.
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
    """One timed request (or one batch in lockstep). ``stamps_ns[i]`` is when token i of every row was on the host.

    ``tokens`` are those of each row. ``setup_seconds`` is the one-time cost of its shape, outside the stamps.
    ``unsupported`` says why the engine cannot run the variant. There are no stamps then, nor where memory ran out.
    ``launched_ns`` is when the host had launched the first token's forward; None where it runs on the host itself.
    A server answers each prompt by itself: ``each`` are its requests, in the order of the prompts, and one that failed
    has an ``error``.
    """

    submitted_ns: int = 0
    stamps_ns: tuple[int, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    setup_seconds: float = 0.0
    unsupported: str | None = None
    out_of_memory: bool = False
    launched_ns: int | None = None
    error: str | None = None
    each: tuple[Timed, ...] = ()


@dataclass(frozen=True)
class Divergence:
    """How two variants differ over one reference. ``kl`` is KL(against ‖ variant) in nats at each of its tokens.

    ``agree`` counts the positions with the same most likely token; ``max_abs_dlogp`` is the largest |Δ log p| of a
    reference token; the nlls are sums over the reference. With an ``error``, the numbers are meaningless.
    """

    id: str
    kl: tuple[float, ...] = ()
    agree: int = 0
    max_abs_dlogp: float = 0.0
    nll: float = 0.0
    nll_against: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Margin:
    """How sure a model is of its next token, in nats.

    ``margin`` is log p of its best token less that of its second best, and ``behind`` is log p of its best token less
    that of the chosen one (zero if that is the best). With an ``error``, the numbers are meaningless.
    """

    id: str
    margin: float = 0.0
    behind: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class Hardware:
    """What limits a variant's speed: the machine's measured limits, the variant's bytes, the device's memory."""

    limits: Limits
    footprint: Footprint
    memory_bytes: int


@dataclass(frozen=True)
class Check:
    """One check of a variant; ``ok`` is False for a mismatch that was allowed."""

    name: str
    variant: str
    ok: bool
    detail: str


class Backend(Protocol):
    """Where one variant runs. Methods that its ``capabilities`` do not cover are never called."""

    @property
    def capabilities(self) -> frozenset[Capability]: ...

    @property
    def lacking(self) -> Mapping[Capability, str]:
        """Why a capability is missing, where more can be said than that the backend cannot."""
        ...

    @property
    def context_length(self) -> int:
        """The most tokens the model accepts, prompt and reply (a very large number if it states no limit)."""
        ...

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Variants with equal tokenizers share one object. None without ``Capability.TOKENS``."""
        ...

    def score(self, requests: Sequence[ScoringRequest]) -> Generator[Score]:
        """Yield the score of every request that is not done."""
        ...

    def generate(self, requests: Sequence[ReplyRequest], settings: DecodingSettings) -> Generator[Reply | Score]:
        """Yield replies to the requests that are not done, as they finish, and scores of their references.

        A reference that gets no score here must be scored with ``score``.
        """
        ...

    def timed(self, request: TimedRequest) -> Timed:
        """Answer a batch in lockstep, with no other work running. Setup for its shape is kept until ``release``."""
        ...

    def hardware(self) -> Hardware:
        """Return what the rooflines are computed from."""
        ...

    def divergence(self, against: Variant, requests: Sequence[ScoringRequest]) -> Generator[Divergence]:
        """Yield, for every request that is not done, how much this variant differs from ``against``.

        Raises DoesNotFitError if both do not fit into memory, NotComparableError if their tokens differ.
        """
        ...

    def margins(self, requests: Sequence[ChoiceRequest]) -> Generator[Margin]:
        """Yield how sure this variant is of its own next token where another was chosen."""
        ...

    def weight_errors(self, variants: Sequence[Variant]) -> dict[str, Any]:
        """Return how well this merged variant kept what its adapter had learned, or why that is unknown.

        The adapter is looked for in ``variants``.
        """
        ...

    def memory(self, workload: MemoryWorkload) -> Mapping[str, Any]:
        """Return ``MemoryRecord``'s fields (sizes in MiB) or ``error``, measured in a fresh process.

        Raises HarnessError if that process died without an answer.
        """
        ...


class Backends(Protocol):
    """All backends of one run, so that they can share weights and a GPU."""

    def of(self, variant: Variant) -> Backend:
        """Return the backend of a variant."""
        ...

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        """Return one row per check of the variants; raise InputError at the first that fails.

        With ``allow_base_mismatch``, a base, tokenizer or digest that differs from the recorded one gives a row with
        ``ok=False`` instead of an error.
        """
        ...

    def take(self, share: Share) -> None:
        """From now on treat the requests of other processes' shares as done. Called only where several share a run."""
        ...

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        """Return whether these variants fit into memory together, so that requests to them can be interleaved."""
        ...

    def release(self) -> None:
        """Free what ``timed`` set up, so that the next shape has the memory."""
        ...

    def close(self) -> None:
        """Free everything; later calls load it again."""
        ...
