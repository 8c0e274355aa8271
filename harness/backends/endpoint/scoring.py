"""Scores of references from a server that returns the log-probabilities of a prompt."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.backends.base import Score, ScoringRequest
from harness.backends.endpoint.client import Limit, Server
from harness.backends.endpoint.errors import RefusedError
from harness.backends.endpoint.prompting import Form, prompt_fields
from harness.backends.endpoint.wire import Completion, read
from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError

NOT_POSSIBLE = "the server returns no log-probabilities of the prompt"
IMPOSSIBLE = -9999.0  # what vLLM writes for minus infinity, which JSON does not have


@dataclass(frozen=True)
class Way:
    """A way to ask for the log-probabilities of a prompt: its name, and the fields of the request."""

    name: str
    fields: Mapping[str, Any]


# Tried in this order. An echo may be asked for without a reply, so that a prompt can fill the context; not everywhere.
WAYS = (
    Way("prompt_logprobs", {"prompt_logprobs": 0, "echo": True, "max_tokens": 0}),
    Way("prompt_logprobs", {"prompt_logprobs": 0, "max_tokens": 1}),
    Way("echo", {"echo": True, "logprobs": 1, "max_tokens": 0}),
    Way("echo", {"echo": True, "logprobs": 1, "max_tokens": 1}),
)


class OtherTokensError(Exception):
    """The server scored other tokens than it was asked for, or none."""


@dataclass(frozen=True)
class Scorer:
    """Asks one server for the scores of references."""

    server: Server
    tokenizer: Tokenizer
    form: Form
    way: Way
    limit: Limit

    async def score(self, request: ScoringRequest) -> Score:
        """Return −log p of a reference, or why this server has none. Raises HarnessError to end the run."""
        try:
            found = await self.logprobs(request.ids)
        except RefusedError as error:
            if error.status == 404:
                raise
            return Score(request.id, None, f"the server refuses it (status {error.status})")
        except OtherTokensError as error:
            raise self.server.broken("scores other tokens than it was asked for") from error
        except HarnessError as error:
            if type(error) is not HarnessError:
                raise
            return Score(request.id, None, str(error))
        return Score(request.id, -math.fsum(found[request.context - 1 :]))

    async def logprobs(self, ids: Sequence[int], *, probing: bool = False) -> list[float]:
        """Return log p of each token but the first, in nats; raise OtherTokensError if they are of others."""
        body = {
            "model": self.server.variant.model,
            **prompt_fields(self.form, self.tokenizer, ids),
            "temperature": 0.0,
            **self.way.fields,
        }
        answer = await self.server.ask(self.form.path, body, limit=self.limit, probing=probing)
        completion = read(Completion, answer, self.server)
        if self.way.name == "echo":
            return _echoed(completion, len(ids), int(self.way.fields["max_tokens"]))
        return _of_prompt(completion, ids)


def _of_prompt(answer: Completion, ids: Sequence[int]) -> list[float]:
    entries = answer.choice.prompt_logprobs or ()
    if len(entries) != len(ids):
        raise OtherTokensError
    found = []
    for token, entry in zip(ids[1:], entries[1:], strict=True):
        if entry is None or token not in entry:
            raise OtherTokensError
        found.append(_finite_or_minus_infinity(entry[token].logprob))
    return found


def _echoed(answer: Completion, tokens: int, replied: int) -> list[float]:
    """An echo names its tokens by their text, which two may share, so only their number can be compared."""
    stated = answer.choice.logprobs.token_logprobs if answer.choice.logprobs else ()
    found = [one for one in stated[1:tokens] if one is not None]
    if len(stated) not in (tokens, tokens + replied) or len(found) != tokens - 1:
        raise OtherTokensError
    return [_finite_or_minus_infinity(one) for one in found]


def _finite_or_minus_infinity(logprob: float) -> float:
    return -math.inf if logprob <= IMPOSSIBLE else logprob
