"""Replies from a server, in the words and tokens that the local backend would report."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, Literal

from harness.backends.base import DecodingSettings, Reply, ReplyRequest
from harness.backends.endpoint.client import Limit, Server
from harness.backends.endpoint.errors import RefusedError
from harness.backends.endpoint.prompting import Form, prompt_fields
from harness.backends.endpoint.wire import Choice, Completion, read
from harness.backends.local.sampling import StopStrings, seed_digest
from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError

# Beyond OpenAI's API. Servers take what a request leaves out from the model's generation_config.json; here, as
# everywhere in this project, only the config of the run decides. ``return_token_ids`` is vLLM's.
EXTENDED = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "return_token_ids": True}

Finish = Literal["eos", "stop", "length"]


@dataclass(frozen=True)
class Generator:
    """Asks one server for replies; ``extended`` if it takes fields beyond OpenAI's API."""

    server: Server
    tokenizer: Tokenizer
    form: Form
    extended: bool
    limit: Limit

    async def reply(self, request: ReplyRequest, settings: DecodingSettings) -> Reply:
        """Return the reply to one prompt, or why this server has none. Raises HarnessError to end the run."""
        submitted = time.perf_counter_ns()
        try:
            answer = await self.ask(request, settings)
            return _reply(request, answer, settings, self.tokenizer, submitted)
        except RefusedError as error:
            if error.status == 404:
                raise
            why = f"the server refuses it (status {error.status})"
        except HarnessError as error:
            if type(error) is not HarnessError:
                raise
            why = str(error)
        return Reply(request.id, (), "", None, submitted, (), why)

    async def ask(self, request: ReplyRequest, settings: DecodingSettings, *, probing: bool = False) -> Completion:
        """Return the server's answer to one prompt."""
        body = {
            "model": self.server.variant.model,
            **prompt_fields(self.form, self.tokenizer, request.ids, request.messages),
            **decoding_fields(request.id, settings),
            **(EXTENDED if self.extended else {}),
        }
        answer = await self.server.ask(self.form.path, body, limit=self.limit, probing=probing)
        return read(Completion, answer, self.server)


def decoding_fields(request: str, settings: DecodingSettings) -> dict[str, Any]:
    """Return the fields that say how a reply is generated; a sampled one's seed depends on the dialogue alone."""
    fields: dict[str, Any] = {"max_tokens": settings.max_new_tokens, "temperature": settings.temperature}
    if settings.temperature > 0:
        seed = int.from_bytes(seed_digest(settings.seed, request)[:4], "big") >> 1
        fields |= {"top_p": settings.top_p, "seed": seed}
    if settings.stop:
        fields["stop"] = list(settings.stop)
    return fields


def _reply(
    request: ReplyRequest, answer: Completion, settings: DecodingSettings, tokenizer: Tokenizer, submitted: int
) -> Reply:
    """Return an answer as a reply. Without token ids its text is encoded again, so that tokens can be counted.

    Raises HarnessError if the reply did not end as replies do, e.g. by a content filter.
    """
    choice = answer.choice
    if choice.finish_reason not in ("stop", "length"):
        raise HarnessError(f"the server ended the reply with finish_reason {choice.finish_reason!r:.40}")
    finish: Finish = "length" if choice.finish_reason == "length" else "eos"
    if choice.token_ids is None:
        return _recounted(request, answer, finish, settings, tokenizer, submitted)
    stops = StopStrings(settings.stop, tokenizer)
    tokens: list[int] = []
    for token in choice.token_ids if finish == "length" else _without_end(choice, tokenizer):
        tokens.append(token)
        text = stops.cut(tokens)
        if text is not None:
            return Reply(request.id, tuple(tokens[:-1]), text, "stop", submitted, ())
    text = tokenizer.decode(tokens, skip_special_tokens=True)
    return Reply(request.id, tuple(tokens), text, finish, submitted, ())


def _without_end(choice: Choice, tokenizer: Tokenizer) -> tuple[int, ...]:
    tokens = choice.token_ids or ()
    ended = tokens and tokens[-1] in (tokenizer.eos_token_id, choice.stop_reason)
    return tokens[:-1] if ended else tokens


def _recounted(
    request: ReplyRequest,
    answer: Completion,
    finish: Finish,
    settings: DecodingSettings,
    tokenizer: Tokenizer,
    submitted: int,
) -> Reply:
    text, stopped = answer.text, isinstance(answer.choice.stop_reason, str)
    places = [place for place in (text.find(stop) for stop in settings.stop if stop) if place >= 0]
    if places:
        text, stopped = text[: min(places)], True
    tokens = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    return Reply(request.id, tuple(tokens), text, "stop" if stopped else finish, submitted, ())
