"""How a prompt is given to a server: as token ids, as text that it tokenises, or as messages for its own template."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from harness.dialogues.tokens import Tokenizer, encode_prompt
from harness.errors import HarnessError


class Form(Enum):
    """The form of a prompt; each value completes the sentence "prompts are given as …"."""

    IDS = "token ids"
    TEXT = "text, which the server tokenises"
    MESSAGES = "messages: the server's own chat template makes the prompt"

    @property
    def path(self) -> str:
        """Where such prompts are sent to."""
        return "/chat/completions" if self is Form.MESSAGES else "/completions"


def prompt_fields(
    form: Form, tokenizer: Tokenizer, ids: Sequence[int], messages: Sequence[Mapping[str, str]] = ()
) -> dict[str, Any]:
    """Return the fields of a request that contain its prompt; messages default to one of the user's.

    Raises HarnessError if the ids cannot be written as text.
    """
    if form is Form.IDS:
        return {"prompt": list(ids)}
    if form is Form.MESSAGES and messages:
        return {"messages": list(messages)}
    text = as_text(tokenizer, ids)
    return {"prompt": text} if form is Form.TEXT else {"messages": [{"role": "user", "content": text}]}


def as_text(tokenizer: Tokenizer, ids: Sequence[int]) -> str:
    """Return the text that a server with this tokenizer reads as these ids: without the ``<s>`` that it adds itself.

    Raises HarnessError if there is none.
    """
    whole = tokenizer.decode(ids)
    bare = whole.removeprefix(tokenizer.bos_token or "")
    for text in (bare, bare.removeprefix(" "), whole):  # some tokenizers write a space behind <s>
        if encode_prompt(tokenizer, text) == list(ids):
            return text
    raise HarnessError("its tokens cannot be given to the server as text")
