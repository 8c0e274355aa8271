"""What the teacher-forced passes share: references as token ids, and batches that are the same however often a run
was interrupted, halved where memory runs out."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from harness.backends.local.batches import scoring_tokens
from harness.backends.local.batching import batches, longest_first
from harness.backends.local.device import NO_MEMORY, is_out_of_memory, release_cached_memory
from harness.backends.local.forward import batch_depends_on_length
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import ScoringRequest
from harness.dialogues.tokens import encode_scored
from harness.errors import HarnessError
from harness.passes.base import PassContext
from harness.passes.requests import EncodedOnce, context_length, cut_left, refuse_too_long
from harness.store.schema import DialogueRow, ScoringRecord

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
