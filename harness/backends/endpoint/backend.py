"""The backend of served variants. Each has a server of its own, asked for what probing found that it can do."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from functools import cached_property, partial
from operator import itemgetter
from typing import cast

from harness.backends.base import (
    Backend,
    Capability,
    Check,
    DecodingSettings,
    Event,
    Reply,
    ReplyRequest,
    Score,
    ScoringRequest,
    Timed,
    TimedRequest,
)
from harness.backends.endpoint import models
from harness.backends.endpoint.bounded import answers
from harness.backends.endpoint.client import Limit, Server
from harness.backends.endpoint.probing import Abilities, probe
from harness.backends.endpoint.prompting import Form
from harness.backends.endpoint.scoring import NOT_POSSIBLE
from harness.backends.endpoint.timing import Asked, timed_reply
from harness.backends.local.loading import context_length, load_tokenizer
from harness.backends.ranks import WHOLE, Share
from harness.dialogues.tokens import Tokenizer
from harness.errors import InputError
from harness.progress import EventKind
from harness.variants.model import Variant


class EndpointBackends:
    """All served variants of a run; see ``Backends`` for its methods."""

    def __init__(self, variants: Sequence[Variant], *, event: Event) -> None:
        self.share = WHOLE
        self.event = event
        self._tokenizers: dict[str, Tokenizer] = {}
        self._backends = {variant.name: EndpointBackend(variant, self) for variant in variants}

    def of(self, variant: Variant) -> Backend:
        # It lacks the methods that none of its capabilities asks for.
        return cast(Backend, self._backends[variant.name])

    def check(self, *, allow_base_mismatch: bool) -> tuple[Check, ...]:
        return tuple(row for one in self._backends.values() for row in one.check(self.event, allow_base_mismatch))

    def take(self, share: Share) -> None:
        self.share = share

    def fit_together(self, variants: Sequence[Variant]) -> bool:
        """Served variants need no memory here."""
        return True

    def release(self) -> None: ...

    def close(self) -> None:
        for backend in self._backends.values():
            backend.server.close()

    def tokenizer(self, folder: str) -> Tokenizer:
        """Return the tokenizer in a folder, the same object each time."""
        if folder not in self._tokenizers:
            self._tokenizers[folder] = load_tokenizer(folder)
        return self._tokenizers[folder]


class EndpointBackend:
    """One served variant; see ``Backend`` for its methods."""

    def __init__(self, variant: Variant, among: EndpointBackends) -> None:
        self.server = Server(variant)
        self._variant = variant
        self._among = among

    @cached_property
    def abilities(self) -> Abilities:
        """What the server can do; it is asked once."""
        return probe(self.server, self.tokenizer)

    @property
    def capabilities(self) -> frozenset[Capability]:
        able = {Capability.TOKENS, Capability.GENERATE, Capability.TIME}
        return frozenset(able | {Capability.SCORE} if self.abilities.scorer else able)

    @property
    def lacking(self) -> Mapping[Capability, str]:
        return {Capability.SCORE: NOT_POSSIBLE}

    @cached_property
    def context_length(self) -> int:
        """What the server states, or else the configuration beside the tokenizer."""
        stated = models.context_length(self.abilities.models, self._variant.model)
        if stated is not None:
            return stated
        try:
            return context_length(self._variant.tokenizer_folder)
        except InputError:  # a folder with a tokenizer alone
            return 2**31

    @property
    def tokenizer(self) -> Tokenizer:
        return self._among.tokenizer(self._variant.tokenizer_folder)

    def check(self, event: Event, allow_mismatch: bool) -> list[Check]:
        """Return what was found out about the server; see ``Backends.check``."""
        found, name = self.abilities, self._variant.name
        if found.generator.form is Form.MESSAGES:
            event(EventKind.SERVER_TEMPLATE, {"variant": name, "url": self.server.url})
        rows = [Check("server answers", name, True, found.describe())]
        if found.same_tokens is False:
            detail = f"{self._variant.tokenizer_folder} reads a text as other tokens than the server does."
            if not allow_mismatch:
                raise InputError(f"Variant '{name}': {detail} Set 'tokenizer' to the folder of the served model.")
            rows.append(Check("tokenizers agree", name, False, f"{detail} Allowed."))
        elif found.same_tokens:
            rows.append(Check("tokenizers agree", name, True, "the server reads a text as the same tokens"))
        return rows

    def score(self, requests: Sequence[ScoringRequest]) -> Generator[Score]:
        scorer = self.abilities.scorer
        assert scorer is not None  # or it would not be asked
        waiting = self._among.share.of_single(requests)
        with closing(answers(self.server, waiting, scorer.score, scorer.limit)) as scores:
            yield from scores

    def timed(self, request: TimedRequest) -> Timed:
        """Each prompt is a request of its own; a new one is sent as soon as another has ended."""
        found, tokens = self.abilities, request.reply_tokens
        asked = [Asked(place, ids, tokens) for place, ids in enumerate(request.prompts)]
        ask = partial(timed_reply, found.generator)
        with closing(answers(self.server, asked, ask, Limit(request.at_once))) as replies:
            each = tuple(one for _, one in sorted(replies, key=itemgetter(0)))
        counted = "the server's ids" if found.returns_ids else "encoding the text that has arrived"
        self._note(f"tokens are counted by {counted}; each prompt begins with words of its own, to miss prefix caches")
        if any(one.stamps_ns and len(one.stamps_ns) != tokens for one in each):
            self._note("the server ends replies itself, so that E2E and tokens/s are not of replies of one length")
        return Timed(each=each)

    def _note(self, detail: str) -> None:
        self._among.event(
            EventKind.LATENCY_ENGINE, {"variant": self._variant.name, "engine": "server", "detail": detail}
        )

    def generate(self, requests: Sequence[ReplyRequest], settings: DecodingSettings) -> Generator[Reply | Score]:
        generator = self.abilities.generator
        waiting = self._among.share.of_single(requests)
        ask = partial(generator.reply, settings=settings)
        with closing(answers(self.server, waiting, ask, generator.limit)) as replies:
            yield from replies
