"""The answers of OpenAI-compatible servers, as far as they are read. What a server adds is ignored."""

from __future__ import annotations

from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.backends.endpoint.client import Server


class _Part(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class Logprob(_Part):
    """The log-probability of a token, in nats."""

    logprob: float


class Logprobs(_Part):
    """One entry a token; that of the first is null."""

    token_logprobs: tuple[float | None, ...] = ()


class Message(_Part):
    """A chat completion's reply."""

    content: str | None = None


class Choice(_Part):
    """One reply. ``prompt_logprobs`` (vLLM) maps token ids to their log-probabilities, at each place of the prompt."""

    text: str | None = None
    message: Message | None = None
    finish_reason: str | None = None
    stop_reason: int | str | None = None
    token_ids: tuple[int, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    prompt_logprobs: tuple[dict[int, Logprob] | None, ...] | None = None
    logprobs: Logprobs | None = None


class Usage(_Part):
    """How many tokens the server read."""

    prompt_tokens: int | None = None


class Completion(_Part):
    """The answer to a completion or chat completion."""

    choices: tuple[Choice, ...] = Field(min_length=1)
    usage: Usage | None = None

    @property
    def choice(self) -> Choice:
        return self.choices[0]

    @property
    def text(self) -> str:
        message = self.choice.message
        return _without_halves((message.content if message else self.choice.text) or "")

    def prompt_is(self, ids: tuple[int, ...]) -> bool | None:
        """Return whether the server read these tokens, as far as it says: their number alone, or None for nothing."""
        if self.choice.prompt_token_ids is not None:
            return self.choice.prompt_token_ids == ids
        counted = self.usage.prompt_tokens if self.usage else None
        return None if counted is None else counted == len(ids)


class StreamedChoice(_Part):
    """A piece of a streamed reply: any number of tokens."""

    text: str | None = None
    delta: Message | None = None
    token_ids: tuple[int, ...] | None = None

    @property
    def said(self) -> str:
        return _without_halves((self.delta.content if self.delta else self.text) or "")


class Chunk(_Part):
    """One event of a streamed completion; the last may have no choices."""

    choices: tuple[StreamedChoice, ...] = ()


class ServedModel(_Part):
    """A model in the list of ``/models``. LoRA adapters have their base as ``parent``."""

    id: str
    owned_by: str | None = None
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None


class ModelList(_Part):
    """The answer to ``/models``."""

    data: tuple[ServedModel, ...] = ()


Read = TypeVar("Read", bound=BaseModel)
_NAMES = {"ModelList": "list of models"}


def read(model: type[Read], answer: Any, server: Server) -> Read:
    """Return an answer as ``model``; raise ServerError if it is something else."""
    try:
        return model.model_validate(answer)
    except ValidationError as error:
        place = ".".join(map(str, error.errors()[0]["loc"]))
        kind = _NAMES.get(model.__name__, model.__name__.lower())
        raise server.broken(f"answers with what is no {kind} of OpenAI's API{place and f' ({place})'}") from error


def _without_halves(text: str) -> str:
    """Replace halves of surrogate pairs, which JSON may hold, but no tokenizer and no UTF-8 file."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
