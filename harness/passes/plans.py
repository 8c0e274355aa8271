"""From dialogues to what a model is asked: prompts and references as token ids, what is already done, and batches.

Dialogues are tokenised once for all variants with the same tokenizer. Batches are the same however often a run was
interrupted, and are halved where memory runs out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from harness.backends.base import Request
from harness.backends.local.batches import batches, longest_first, scoring_tokens
from harness.backends.local.device import NO_MEMORY, is_out_of_memory, release_cached_memory
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import ScoringRequest, batch_depends_on_length
from harness.dialogues.tokens import encode_prompt, encode_scored
from harness.errors import HarnessError, InputError
from harness.passes.base import PassContext
from harness.store.schema import DialogueRow, Record, ScoringRecord
from harness.variants.model import Variant

Found = TypeVar("Found")


@dataclass(frozen=True)
class ReferencePlan:
    """What can be measured, longest first, and for the rest why not (the record's ``error`` or ``skipped``)."""

    requests: list[ScoringRequest]
    refusals: dict[str, dict[str, str]]


def encode_reference(tokenizer: Any, dialogue: DialogueRow) -> tuple[list[int], int]:
    """Return the ids of prompt and reference, and how many of them are the prompt's."""
    return encode_scored(tokenizer, dialogue.prompt, dialogue.reference or "")


def plan_references(
    context: PassContext, loaded: LoadedModel, dialogues: Sequence[DialogueRow], encode: EncodedOnce
) -> ReferencePlan:
    """Tokenise, and deal with what the context cannot hold as ``dialogues.too_long`` says."""
    most = context_length(loaded.model)
    policy = context.config.dialogues.too_long if context.config.dialogues else "skip"
    special = frozenset(loaded.tokenizer.all_special_ids)
    requests: list[ScoringRequest] = []
    refusals: dict[str, dict[str, str]] = {}
    too_long: list[str] = []
    for dialogue in dialogues:
        try:
            ids, n_context = encode(loaded.tokenizer, dialogue)
        except HarnessError as error:
            refusals[dialogue.id] = {"error": str(error)}
            continue
        if len(ids) > most:
            too_long.append(dialogue.id)
            if policy == "cut-left":
                reference = ids[n_context:]
                prompt = cut_left(ids[:n_context], most - len(reference), special)
                ids, n_context = prompt + reference, len(prompt)
        if len(ids) > most or n_context < 1:
            refusals[dialogue.id] = {"skipped": "too long"}
        else:
            requests.append(ScoringRequest(dialogue.id, tuple(ids), n_context))
    if policy == "error":
        refuse_too_long(too_long, most, "prompt and reference together")
    return ReferencePlan(longest_first(requests), refusals)


def in_batches(
    context: PassContext,
    loaded: LoadedModel,
    requests: list[ScoringRequest],
    wanted: set[str],
    measure: Callable[[list[ScoringRequest]], list[Found]],
    *,
    pass_name: str,
    models: int = 1,
) -> Iterator[tuple[list[ScoringRequest], list[Found] | None]]:
    """Yield each batch that holds a wanted request with what was found; None for one that does not fit even alone.

    Batches are formed from all requests, finished ones too: a dialogue's neighbours change its sums in the seventh
    digit, and a run that was interrupted must end with the numbers of one that was not.
    """
    alone = 1 if batch_depends_on_length(loaded.model) else None
    budget = max(1, scoring_tokens(loaded.model, loaded.device, limit=context.config.batch_tokens) // models)
    start = 0
    while start < len(requests):
        batch = next(batches(requests[start:], budget, most_rows=alone))
        if not any(request.id in wanted for request in batch):
            start += len(batch)
            continue
        found: list[Found] | None = None
        try:
            found = measure(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if found is not None:
            yield batch, found
            start += len(batch)
            continue
        # Outside the handler, whose error still holds the tensors that did not fit.
        release_cached_memory(loaded.device)
        if len(batch) == 1:
            yield batch, None
            start += 1
        else:
            rows = len(batch) // 2
            budget = rows * len(batch[0])
            detail = {"pass": pass_name, "variant": loaded.variant.name, "rows": len(batch), "rows_now": rows}
            context.event("out-of-memory", detail)


def scoring_record(request: ScoringRequest, nll: float | None, key: str) -> ScoringRecord:
    """Return what the scoring pass keeps of a reference; ``nll`` is None for one that memory did not hold."""
    counts = {"reference_tokens": len(request.reference), "prompt_tokens": request.context}
    if nll is None:
        return ScoringRecord(id=request.id, key=key, error=NO_MEMORY, **counts)
    if not math.isfinite(nll):
        return ScoringRecord(id=request.id, key=key, error=f"the log-likelihood is {nll}", **counts)
    return ScoringRecord(id=request.id, key=key, nll=nll, **counts)


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
