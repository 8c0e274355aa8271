"""From dialogues to token ids, once for all variants with the same tokenizer; and what is already done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.errors import InputError
from harness.passes.base import PassContext
from harness.store import DialogueRow, Record
from harness.variants import Variant

AnyRecord = TypeVar("AnyRecord", bound=Record)


@dataclass
class EncodedOnce:
    """Remembers what dialogues became under each tokenizer, so that they are tokenised once for all variants."""

    encode: Callable[[Any, DialogueRow], Any]
    _by_tokenizer: dict[int, dict[str, Any]] = field(default_factory=dict)

    def __call__(self, tokenizer: Any, dialogue: DialogueRow) -> Any:
        known = self._by_tokenizer.setdefault(id(tokenizer), {})
        if dialogue.id not in known:
            known[dialogue.id] = self.encode(tokenizer, dialogue)
        return known[dialogue.id]


def unfinished(
    context: PassContext,
    pass_name: str,
    variant: Variant,
    model: type[AnyRecord],
    dialogues: Sequence[DialogueRow],
) -> dict[str, str]:
    """Return the key of every dialogue (by id, in order) whose record is not on disk yet.

    A record counts only under its own key: what another variant, template or setting left there is not ours.
    """
    done = {(record.id, record.key) for record in context.folder.records(model, pass_name, variant.name)}
    keyed = ((dialogue.id, context.key(pass_name, variant, dialogue)) for dialogue in dialogues)
    return {name: key for name, key in keyed if (name, key) not in done}


def context_length(model: Any) -> int:
    """Return how many positions the model has (a very large number where it states none)."""
    return int(getattr(model.config.get_text_config(), "max_position_embeddings", None) or 2**31)


def cut_left(ids: list[int], keep: int, special_ids: frozenset[int]) -> list[int]:
    """Return the last ``keep`` ids; a special token that opened the text (``<s>``) still opens it."""
    if keep <= 0:
        return []
    if len(ids) <= keep:
        return ids
    head = ids[:1] if ids[0] in special_ids else []
    return head + ids[len(ids) - (keep - len(head)) :] if keep > len(head) else ids[-keep:]


def refuse_too_long(dialogues: Sequence[str], context: int, what: str) -> None:
    """Raise InputError where ``too_long: error`` and there are such dialogues."""
    if dialogues:
        raise InputError(
            f"{len(dialogues)} dialogues are too long: {what} exceeds the model's {context} tokens, first in dialogue "
            f"'{dialogues[0]}'. Set dialogues.too_long to skip or cut-left, or shorten them."
        )
