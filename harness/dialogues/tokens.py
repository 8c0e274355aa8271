"""Text to token ids, by one rule for training, scoring and generation.

The rule is lm-evaluation-harness's, so that its ``loglikelihood`` gives the same numbers for the same strings: the
tokenizer's special tokens come first unless the text already starts with them; prompt and reference are tokenized
together, and the tokens after those of the prompt without its trailing white space are scored. (The tokens of the
prompt alone may differ: white space at its end can merge with the first word of the reply.)

A chat template writes all special tokens itself. Its text is therefore tokenized without any others
(``special_tokens=False``), as transformers' ``apply_chat_template`` does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from harness.errors import HarnessError


class Tokenizer(Protocol):
    """The part of a transformers tokenizer that is used."""

    bos_token: str | None
    bos_token_id: int | None
    eos_token: str | None
    eos_token_id: int | None
    pad_token_id: int | None
    all_special_ids: list[int]
    chat_template: str | dict[str, str] | None

    def __call__(
        self, text: str, *, add_special_tokens: bool, truncation: bool, verbose: bool
    ) -> Mapping[str, Sequence[int]]:
        """Return the text's ids as ``input_ids``."""

    def apply_chat_template(
        self,
        conversation: Sequence[Mapping[str, str]],
        *,
        tokenize: bool,
        add_generation_prompt: bool,
        chat_template: str,
        **arguments: Any,
    ) -> str:
        """Return a conversation as text (``tokenize`` False)."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""


def can_write(tokenizer: Tokenizer, text: str) -> bool:
    """Return whether tokens exist whose text contains this one; some tokenizers know no line breaks or capitals."""
    for within in (text, f"a{text}a", f"a {text} a"):
        ids = list(tokenizer(within, add_special_tokens=False, truncation=False, verbose=False)["input_ids"])
        if text and text in tokenizer.decode(ids):
            return True
    return False


class EncodedPair(NamedTuple):
    """Token ids of prompt and reference as one sequence; ``ids[n_context:]`` are scored (or learned)."""

    ids: list[int]
    n_context: int


def encode_prompt(tokenizer: Tokenizer, prompt: str, *, special_tokens: bool = True) -> list[int]:
    """Return the ids that generation starts from: the whole prompt, untruncated."""
    ids = _encode(tokenizer, prompt, special_tokens)
    return ids or [_first_token(tokenizer)]


def encode_scored(tokenizer: Tokenizer, prompt: str, reference: str, *, special_tokens: bool = True) -> EncodedPair:
    """Return the ids of prompt and reference, without an end-of-sequence token.

    At least one token is context and at least one is scored. Raises HarnessError if the reference has no tokens.
    """
    return _encode_pair(tokenizer, prompt, reference, "", special_tokens)


def encode_training(
    tokenizer: Tokenizer, prompt: str, completion: str, ending: str = "", *, special_tokens: bool = True
) -> EncodedPair:
    """Return ``encode_scored``'s ids followed by ``ending`` and the end-of-sequence token, which are learned too."""
    ids, n_context = _encode_pair(tokenizer, prompt, completion, ending, special_tokens)
    eos = tokenizer.eos_token_id
    return EncodedPair(ids if eos is None or ids[-1] == eos else [*ids, eos], n_context)


def _encode_pair(tokenizer: Tokenizer, prompt: str, reference: str, ending: str, special_tokens: bool) -> EncodedPair:
    if not reference:
        raise HarnessError("An empty reference cannot be scored.")
    ids = _encode(tokenizer, prompt + reference + ending, special_tokens)
    n_context = len(_encode(tokenizer, prompt.rstrip(), special_tokens))
    if n_context == 0:
        # A likelihood needs a context to be conditional on.
        ids, n_context = [_first_token(tokenizer), *ids], 1
    if len(ids) < 2:
        raise HarnessError(f"The reference {reference!r:.60} has no tokens in this tokenizer.")
    return EncodedPair(ids, min(n_context, len(ids) - 1))


def _encode(tokenizer: Tokenizer, text: str, special_tokens: bool) -> list[int]:
    begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    # verbose=False: a dialogue longer than the context is skipped and counted, so no warning is needed.
    encoded = tokenizer(text, add_special_tokens=special_tokens and not begins, truncation=False, verbose=False)
    ids: list[int] = list(encoded["input_ids"])
    eos = tokenizer.eos_token_id
    ended = tokenizer.eos_token is not None and text.endswith(tokenizer.eos_token)
    if special_tokens and ids and eos is not None and ids[-1] == eos and not begins and not ended:
        ids.pop()  # some tokenizers end every text, but a reply must follow
    return ids


def _first_token(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise HarnessError("This tokenizer has neither a beginning-of-sequence nor an end-of-sequence token.")
