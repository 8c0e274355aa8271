"""Timed requests to a server: streamed, each token stamped on the arrival of the event that brings it.

Tokens are counted by their ids, never by events: a server may send several at once. Where it sends no ids, the text
that has arrived so far is encoded, and what it has grown by is stamped.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from harness.backends.base import Timed
from harness.backends.endpoint.client import UNREACHABLE
from harness.backends.endpoint.errors import AgainError, RefusedError
from harness.backends.endpoint.generating import EXTENDED, Generator
from harness.backends.endpoint.prompting import Form
from harness.backends.endpoint.wire import Chunk
from harness.dialogues.tokens import Tokenizer

DONE = "[DONE]"


@dataclass(frozen=True)
class Asked:
    """A prompt of a timed request, its place among those sent together, and how many tokens are asked for."""

    place: int
    ids: tuple[int, ...]
    reply_tokens: int


async def timed_reply(generator: Generator, asked: Asked) -> tuple[int, Timed]:
    """Return the place of a request and its stamps, or the error it ended with.

    Raises HarnessError if the server is gone or refuses.
    """
    body = {
        "model": generator.server.variant.model,
        **_prompt_of_its_own(generator, asked.ids),
        "max_tokens": asked.reply_tokens,
        "temperature": 0.0,
        "stream": True,
        **({**EXTENDED, "ignore_eos": True, "min_tokens": asked.reply_tokens} if generator.extended else {}),
    }
    submitted = time.perf_counter_ns()
    try:
        lines = await generator.server.stream(generator.form.path, body)
        stamps = stamps_of(lines, generator.tokenizer)
    except AgainError as error:
        if error.reason == UNREACHABLE:
            raise generator.server.broken(error.reason) from error
        return asked.place, Timed(submitted, error=f"the server {error.reason}")
    except RefusedError as error:
        if error.status == 404:
            raise
        return asked.place, Timed(submitted, error=f"the server refuses it (status {error.status})")
    return asked.place, Timed(submitted, stamps)


def stamps_of(lines: Sequence[tuple[int, str]], tokenizer: Tokenizer) -> tuple[int, ...]:
    """Return the time of arrival of each token; raise AgainError for a stream that is no whole reply."""
    stamps: list[int] = []
    text = ""
    ended = False
    for stamp, line in lines:
        if not line.startswith("data:"):
            continue  # a comment that keeps the connection alive, or an empty line between events
        payload = line.removeprefix("data:").strip()
        if payload == DONE:
            ended = True
            break
        try:
            chunk = Chunk.model_validate_json(payload)
        except ValidationError as error:
            raise AgainError("streams what is no completion") from error
        for choice in chunk.choices[:1]:
            if choice.token_ids is not None:
                stamps += [stamp] * len(choice.token_ids)
            elif choice.said:
                text += choice.said
                encoded = tokenizer(text, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
                stamps += [stamp] * (len(encoded) - len(stamps))
    if not ended:
        raise AgainError("breaks off its answer")
    if not stamps:
        raise AgainError("streams no token")
    return tuple(stamps)


def _prompt_of_its_own(generator: Generator, ids: Sequence[int]) -> dict[str, Any]:
    """Return the prompt with a beginning that no other request has, so that no cache of prefixes serves it.

    Its length in tokens stays the same where it is given as ids.
    """
    tokenizer, fresh = generator.tokenizer, secrets.token_hex(4)
    if generator.form is Form.IDS:
        encoded = tokenizer(fresh, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        return {"prompt": [*ids[:1], *encoded, *ids[1 + len(encoded) :]][: len(ids)]}
    text = f"{fresh} {tokenizer.decode(ids, skip_special_tokens=True)}"
    return {"prompt": text} if generator.form is Form.TEXT else {"messages": [{"role": "user", "content": text}]}
