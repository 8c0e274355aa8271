"""From dialogues to token ids, once for all variants with the same tokenizer; and what is already done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.backends.base import Request
from harness.backends.local.pool import LoadedModel
from harness.dialogues.tokens import encode_prompt
from harness.errors import HarnessError, InputError
from harness.passes.base import PassContext
from harness.store.schema import DialogueRow, Record
from harness.variants.model import Variant

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


@dataclass(frozen=True)
class PromptPlan:
    """The prompts that can be replied to, in the run's order, and for the rest why not (the record's ``error`` or
    ``skipped``)."""

    requests: list[Request]
    refusals: dict[str, dict[str, str]]


def encode_dialogue_prompt(tokenizer: Any, dialogue: DialogueRow) -> list[int]:
    """Return the ids that a dialogue's reply starts from."""
    return encode_prompt(tokenizer, dialogue.prompt)


def plan_prompts(context: PassContext, loaded: LoadedModel, encode: EncodedOnce) -> PromptPlan:
    """Tokenise, and deal with what the context cannot hold as ``dialogues.too_long`` says."""
    most = context_length(loaded.model)
    room = most - context.config.generation.max_new_tokens
    policy = context.config.dialogues.too_long if context.config.dialogues else "skip"
    special = frozenset(loaded.tokenizer.all_special_ids)
    requests: list[Request] = []
    refusals: dict[str, dict[str, str]] = {}
    too_long: list[str] = []
    for dialogue in context.dialogues:
        try:
            ids = encode(loaded.tokenizer, dialogue)
        except HarnessError as error:
            refusals[dialogue.id] = {"error": str(error)}
            continue
        if len(ids) > room:
            too_long.append(dialogue.id)
            ids = cut_left(ids, room, special) if policy == "cut-left" else []
        if ids:
            requests.append(Request(dialogue.id, tuple(ids)))
        else:
            refusals[dialogue.id] = {"skipped": "too long"}
    if policy == "error":
        refuse_too_long(too_long, most, "the prompt with max_new_tokens")
    return PromptPlan(requests, refusals)


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
