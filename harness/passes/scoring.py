"""The scoring pass: how likely each variant finds the doctor's own reply.

Teacher-forced −log p of the reference given the prompt, tokenised as lm-evaluation-harness does, so that its
``loglikelihood`` gives the same numbers for the same strings. Where the run asks for replies too, generation has scored
most references on its way (``passes/joint.py``), and this does what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import CausalForward, ScoringRequest, negative_log_likelihoods
from harness.passes.base import PassContext
from harness.passes.joint import asked_for_both, riders
from harness.passes.plans import (
    EncodedOnce,
    ReferencePlan,
    encode_dialogue_prompt,
    encode_reference,
    in_batches,
    plan_prompts,
    plan_references,
    scoring_record,
    unfinished,
)
from harness.store.folder import RecordWriter
from harness.store.schema import DialogueRow, ScoringRecord
from harness.variants.model import Variant

NAME = "scoring"


def run(context: PassContext) -> None:
    """Score every dialogue that has a reference under every variant; records on disk are not made again."""
    scored = [dialogue for dialogue in context.dialogues if dialogue.reference is not None]
    encode = EncodedOnce(encode_reference)
    encode_prompt = EncodedOnce(encode_dialogue_prompt)
    for variant in context.variants:
        _score_variant(context, variant, scored, encode, encode_prompt)


def _score_variant(
    context: PassContext,
    variant: Variant,
    scored: Sequence[DialogueRow],
    encode: EncodedOnce,
    encode_prompt: EncodedOnce,
) -> None:
    task = f"{NAME} {variant.name}"
    keys = unfinished(context, NAME, variant, ScoringRecord, scored)
    if not keys and asked_for_both(context):
        return  # generation has done, and shown, it all
    context.progress.start(task, len(scored))
    context.progress.advance(task, len(scored) - len(keys))
    if keys:
        with (
            context.pool.use(variant) as loaded,
            FusedLayers(loaded.model, loaded.device).installed(),
            RecordWriter(context.folder.records_path(NAME, variant.name)) as out,
        ):
            plan = plan_references(context, loaded, scored, encode)
            refused = [ScoringRecord(id=i, key=keys[i], **why) for i, why in plan.refusals.items() if i in keys]
            out.append(refused)
            context.progress.advance(task, len(refused))
            for requests in _apart(context, loaded, plan, encode_prompt):
                for new, tokens in _records(context, loaded, requests, keys):
                    out.append(new)
                    context.progress.advance(task, len(new), tokens)
    context.progress.finish(task)


def _apart(
    context: PassContext, loaded: LoadedModel, plan: ReferencePlan, encode_prompt: EncodedOnce
) -> list[list[ScoringRequest]]:
    """Return the references by what generation scores on its way and what it does not.

    Batches are formed from finished references too: apart, what is left is not batched with all that is done.
    """
    if not asked_for_both(context):
        return [plan.requests]
    riding = {prompt.id for prompt, _ in riders(plan_prompts(context, loaded, encode_prompt), plan)}
    return [
        [request for request in plan.requests if request.id not in riding],
        [request for request in plan.requests if request.id in riding],
    ]


def _records(
    context: PassContext, loaded: LoadedModel, requests: list[ScoringRequest], keys: dict[str, str]
) -> Iterator[tuple[list[ScoringRecord], int]]:
    """Yield new records with the number of tokens that were read for them."""
    forward = CausalForward(loaded.model)

    def measure(batch: list[ScoringRequest]) -> list[float]:
        return negative_log_likelihoods(forward, batch, loaded.device)

    for batch, nlls in in_batches(context, loaded, requests, set(keys), measure, pass_name=NAME):
        sums: Sequence[float | None] = nlls or [None] * len(batch)
        results = zip(batch, sums, strict=True)
        new = [scoring_record(request, nll, keys[request.id]) for request, nll in results if request.id in keys]
        yield new, sum(len(request) for request in batch)
