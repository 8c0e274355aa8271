"""Which tokenizers give the same ids for every text, and tokens that a model has no embedding for.

What a tokenizer is told to pad or truncate with, and its chat template, are no part of that: texts are tokenised one
by one, in full, after a template has made them.
"""

from __future__ import annotations

import json
from typing import Any

from harness.dialogues.tokens import Tokenizer


def same_ids(one: Any, other: Any) -> bool:
    """Return whether two tokenizers give the same ids for every text (but one that spells out a padding token)."""
    pads = {one.pad_token, other.pad_token} - {token for tokenizer in (one, other) for token in _named(tokenizer)}
    return _named(one) == _named(other) and _pieces(one, pads) == _pieces(other, pads)


def same_tokenizer(one: Any, other: Any) -> bool:
    """Return whether two tokenizers give the same ids for every text and the same text for all ids."""
    return bool(one.special_tokens_map == other.special_tokens_map and _state(one) == _state(other))


def without_unused_padding(tokenizer: Tokenizer, rows: int) -> Tokenizer:
    """Remove the padding token, in place, if the model has fewer embeddings than its id.

    It was added for training and never is in a text; if one spells it out, it is tokenised like any other.
    """
    changed: Any = tokenizer
    if changed.is_fast and changed.pad_token_id is not None and changed.pad_token_id >= rows:
        state = _state(changed)
        state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] != changed.pad_token]
        changed.pad_token = None
        changed._tokenizer = type(changed._tokenizer).from_str(json.dumps(state))
    return tokenizer


def _named(tokenizer: Any) -> tuple[str | None, str | None]:
    """Return the special tokens that encoding looks at (``dialogues.tokens``)."""
    return tokenizer.bos_token, tokenizer.eos_token


def _state(tokenizer: Any) -> dict[str, Any]:
    if not tokenizer.is_fast:
        return {"model": tokenizer.get_vocab(), "added_tokens": [], "class": type(tokenizer).__name__}
    state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return {**state, "truncation": None, "padding": None}


def _pieces(tokenizer: Any, pads: set[str | None]) -> dict[str, Any]:
    """Return what the ids of a text depend on; ``special`` and the decoder only matter for the way back."""
    state = _state(tokenizer)
    added = [{**token, "special": None} for token in state["added_tokens"] if token["content"] not in pads]
    return {**state, "added_tokens": added, "decoder": None}
