"""Text to token ids, by one rule for training, scoring and generation.

The rule is lm-evaluation-harness's, so that its ``loglikelihood`` gives the same numbers for the same strings: the
tokenizer's own special tokens stand in front unless the text already starts with them; prompt and reference are
tokenized together, and scored is what comes after the tokens of the prompt without its trailing white space. (The
prompt's own tokens need not begin those of the whole: an indentation at its end merges with the reply's first word.)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from harness.errors import HarnessError


class Tokenizer(Protocol):
    """What is used of a transformers tokenizer: to encode texts, to render conversations and to read replies."""

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
        self, conversation: Sequence[Mapping[str, str]], *, tokenize: bool, add_generation_prompt: bool
    ) -> str:
        """Return a conversation as text (``tokenize`` False)."""

    def decode(self, token_ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Return the text of token ids."""

    def get_vocab(self) -> dict[str, int]:
        """Return every token with its id."""


class EncodedPair(NamedTuple):
    """Ids of prompt and reference as one sequence; ``ids[n_context:]`` are scored (or learned)."""

    ids: list[int]
    n_context: int


def encode_prompt(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the ids that generation starts from: the whole prompt, with nothing cut off."""
    ids = _encode(tokenizer, prompt)
    return ids or [_first_token(tokenizer)]


def encode_scored(tokenizer: Tokenizer, prompt: str, reference: str) -> EncodedPair:
    """Return the ids of prompt and reference, without an end-of-sequence token.

    At least one token is context and at least one is scored. Raises HarnessError where the reference has no tokens.
    """
    if not reference:
        raise HarnessError("An empty reference cannot be scored.")
    ids = _encode(tokenizer, prompt + reference)
    n_context = len(_encode(tokenizer, prompt.rstrip()))
    if n_context == 0:
        # Nothing stands before the first token, and a likelihood needs something to be conditional on.
        ids, n_context = [_first_token(tokenizer), *ids], 1
    if len(ids) < 2:
        raise HarnessError(f"The reference {reference!r:.60} has no tokens in this tokenizer.")
    return EncodedPair(ids, min(n_context, len(ids) - 1))


def encode_training(tokenizer: Tokenizer, prompt: str, completion: str, ending: str = "") -> EncodedPair:
    """Return ``encode_scored``'s ids followed by ``ending`` and the end-of-sequence token, which are learned too."""
    pair = encode_scored(tokenizer, prompt, completion)
    ids = list(pair.ids)
    if ending:
        ids += tokenizer(ending, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    eos = tokenizer.eos_token_id
    if eos is not None and ids[-1] != eos:
        ids.append(eos)
    return EncodedPair(ids, pair.n_context)


def _encode(tokenizer: Tokenizer, text: str) -> list[int]:
    begins = tokenizer.bos_token is not None and text.startswith(tokenizer.bos_token)
    # verbose=False: a dialogue longer than the context is skipped and counted, which is better than a warning.
    encoded = tokenizer(text, add_special_tokens=not begins, truncation=False, verbose=False)
    ids: list[int] = list(encoded["input_ids"])
    eos = tokenizer.eos_token_id
    ended = tokenizer.eos_token is not None and text.endswith(tokenizer.eos_token)
    if ids and eos is not None and ids[-1] == eos and not begins and not ended:
        ids.pop()  # some tokenizers end every text; after that, nothing of a reply could follow
    return ids


def _first_token(tokenizer: Tokenizer) -> int:
    for token in (tokenizer.bos_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    raise HarnessError("This tokenizer has neither a beginning-of-sequence nor an end-of-sequence token.")
