"""Turn dialogues into backend requests: tokenise prompts and references, and handle those that are too long.

Dialogues are tokenised once for all variants with the same tokenizer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from harness.backends.base import Backend, Capability, ReplyRequest, Score, ScoringRequest
from harness.dialogues.tokens import Tokenizer, encode_prompt, encode_scored
from harness.errors import HarnessError, InputError
from harness.passes.base import AnyRecord, PassContext
from harness.store.schema import DialogueRow, ScoringRecord

Asked = TypeVar("Asked")
Encoded = tuple[list[int], int]  # ids, and the number of them that belong to the prompt


@dataclass(frozen=True)
class Plan(Generic[Asked]):
    """The requests in the run's order, and why the other dialogues cannot be measured (``error`` or ``skipped``)."""

    requests: list[Asked]
    refusals: dict[str, dict[str, str]]

    def refused(self, record: type[AnyRecord], keys: Mapping[str, str], **more: str) -> list[AnyRecord]:
        """Return records for the refused dialogues that have none yet."""
        return [record(id=i, key=keys[i], **more, **why) for i, why in self.refusals.items() if i in keys]


@dataclass
class EncodedOnce:
    """Caches encoded dialogues per tokenizer, so that each is tokenised once for all variants."""

    encode: Callable[[Tokenizer, DialogueRow], Encoded]
    _by_tokenizer: dict[int, dict[str, Encoded]] = field(default_factory=dict)

    def __call__(self, tokenizer: Tokenizer, dialogue: DialogueRow) -> Encoded:
        encoded = self._by_tokenizer.setdefault(id(tokenizer), {})
        if dialogue.id not in encoded:
            encoded[dialogue.id] = self.encode(tokenizer, dialogue)
        return encoded[dialogue.id]


def encode_reference(tokenizer: Tokenizer, dialogue: DialogueRow) -> Encoded:
    """Return the ids of prompt and reference, and the length of the prompt (with what a chat template adds to it)."""
    chat = dialogue.chat
    if chat is None:
        return encode_scored(tokenizer, dialogue.prompt, dialogue.reference or "")
    return encode_scored(tokenizer, chat.context or "", chat.reference or "", special_tokens=False)


def encode_dialogue_prompt(tokenizer: Tokenizer, dialogue: DialogueRow) -> Encoded:
    """Return the ids of the prompt and their number."""
    ids = encode_prompt(tokenizer, dialogue.prompt, special_tokens=dialogue.chat is None)
    return ids, len(ids)


def with_references(context: PassContext) -> list[DialogueRow]:
    """Return the dialogues that have a reference."""
    return [dialogue for dialogue in context.dialogues if dialogue.reference is not None]


def plan_references(
    context: PassContext,
    backend: Backend,
    dialogues: Sequence[DialogueRow],
    encode: EncodedOnce,
    unfinished: Collection[str],
) -> Plan[ScoringRequest]:
    """Tokenise prompts with their references, handling those that are too long as the config says."""
    found, refusals = _fitted(context, backend, dialogues, encode, 0, "prompt and reference together")
    requests = [ScoringRequest(i, tuple(ids), n, done=i not in unfinished) for i, (ids, n) in found.items()]
    return Plan(requests, refusals)


def plan_prompts(
    context: PassContext, backend: Backend, encode: EncodedOnce, unfinished: Collection[str]
) -> Plan[ReplyRequest]:
    """Tokenise prompts, handling those that leave no room for the reply as the config says."""
    reply = context.config.generation.max_new_tokens
    found, refusals = _fitted(context, backend, context.dialogues, encode, reply, "the prompt with max_new_tokens")
    said = {row.id: tuple(row.chat.messages) for row in context.dialogues if row.chat is not None}
    requests = [
        ReplyRequest(i, tuple(ids), done=i not in unfinished, messages=said.get(i, ())) for i, (ids, _) in found.items()
    ]
    return Plan(requests, refusals)


def scores_while_generating(context: PassContext, backend: Backend) -> bool:
    """Return whether generation also scores references: the run includes both passes and the backend supports it."""
    return {"scoring", "generation"} <= set(context.config.passes) and Capability.JOINT in backend.capabilities


def with_joint_references(prompts: Sequence[ReplyRequest], references: Sequence[ScoringRequest]) -> list[ReplyRequest]:
    """Return the prompts, each with its reference if the two can share the prefill.

    They can if the reference's tokens, tokenised with the prompt, begin with the tokens that generation uses. They
    cannot if either was truncated or refused, or if the reference's first word merges with the prompt's last.
    """
    scored = {request.id: request for request in references}
    pairs = ((prompt, scored.get(prompt.id)) for prompt in prompts)
    return [
        replace(prompt, reference=reference) if reference and reference.ids[: len(prompt)] == prompt.ids else prompt
        for prompt, reference in pairs
    ]


def scoring_record(request: ScoringRequest, score: Score, key: str) -> ScoringRecord:
    """Return the scoring pass's record of a reference."""
    error, nll = score.error, score.nll
    if error is None and (nll is None or not math.isfinite(nll)):
        error, nll = f"the log-likelihood is {nll}", None
    return ScoringRecord(
        id=request.id,
        key=key,
        nll=nll,
        error=error,
        reference_tokens=len(request.reference),
        prompt_tokens=request.context,
    )


def tokenizer_of(backend: Backend) -> Tokenizer:
    """Return the tokenizer of a backend with ``Capability.TOKENS``."""
    if backend.tokenizer is None:
        raise HarnessError("The backend declares Capability.TOKENS but has no tokenizer.")
    return backend.tokenizer


def _fitted(
    context: PassContext,
    backend: Backend,
    dialogues: Sequence[DialogueRow],
    encode: EncodedOnce,
    reply: int,
    what: str,
) -> tuple[dict[str, Encoded], dict[str, dict[str, str]]]:
    """Return by id what fits the context together with ``reply`` tokens, and why the rest cannot be measured.

    Raises InputError if a dialogue is too long and the config says ``too_long: error``.
    """
    tokenizer, room = tokenizer_of(backend), backend.context_length - reply
    policy = context.config.dialogues.too_long if context.config.dialogues else "skip"
    special = frozenset(tokenizer.all_special_ids)
    found: dict[str, Encoded] = {}
    refusals: dict[str, dict[str, str]] = {}
    too_long: list[str] = []
    for dialogue in dialogues:
        try:
            ids, n_context = encode(tokenizer, dialogue)
        except HarnessError as error:
            refusals[dialogue.id] = {"error": str(error)}
            continue
        if len(ids) > room:
            too_long.append(dialogue.id)
            if policy == "cut-left":
                reference = ids[n_context:]
                prompt = cut_left(ids[:n_context], room - len(reference), special)
                ids, n_context = prompt + reference, len(prompt)
        if len(ids) > room or n_context < 1:
            refusals[dialogue.id] = {"skipped": "too long"}
        else:
            found[dialogue.id] = ids, n_context
    if policy == "error" and too_long:
        raise InputError(
            f"{len(too_long)} dialogues are too long: {what} exceeds the model's {backend.context_length} tokens, "
            f"first in dialogue '{too_long[0]}'. Set dialogues.too_long to skip or cut-left, or shorten the dialogues."
        )
    return found, refusals


def cut_left(ids: list[int], keep: int, special_ids: frozenset[int]) -> list[int]:
    """Return the last ``keep`` ids; a special token at the start (``<s>``) is kept."""
    if keep <= 0:
        return []
    if len(ids) <= keep:
        return ids
    head = ids[:1] if ids[0] in special_ids else []
    return head + ids[len(ids) - (keep - len(head)) :] if keep > len(head) else ids[-keep:]
