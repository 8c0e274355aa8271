"""The scoring pass: how likely each variant finds the doctor's own reply.

Teacher-forced −log p of the reference given the prompt, tokenised as lm-evaluation-harness does, so that its
``loglikelihood`` gives the same numbers for the same strings. Where the run asks for replies too, generation has scored
most references on its way, and this does what is left.
"""

from __future__ import annotations

from contextlib import closing

from harness.backends.base import Backend, Capability, ScoringRequest
from harness.passes.base import Conditions, Pass, PassContext, Recording
from harness.passes.plans import (
    EncodedOnce,
    Plan,
    encode_dialogue_prompt,
    encode_reference,
    plan_prompts,
    plan_references,
    scored_on_the_way,
    scoring_record,
    with_references,
    with_riders,
)
from harness.store.schema import ScoringRecord
from harness.variants.model import Variant


def run(context: PassContext) -> None:
    """Score every dialogue that has a reference under every variant; records on disk are not made again."""
    encode, encode_prompt = EncodedOnce(encode_reference), EncodedOnce(encode_dialogue_prompt)
    for variant in context.variants:
        _score_variant(context, variant, encode, encode_prompt)


def settings(on: Conditions) -> dict[str, str | None]:
    return {"too_long": on.too_long}


PASS = Pass(
    ScoringRecord,
    needs=frozenset({Capability.TOKENS, Capability.SCORE}),
    settings=settings,
    run=run,
    after=("generation",),
    needs_references=True,
)


def _score_variant(context: PassContext, variant: Variant, encode: EncodedOnce, encode_prompt: EncodedOnce) -> None:
    backend = context.backends.of(variant)
    scored = with_references(context)
    recording = Recording(context, ScoringRecord, variant, scored)
    if not recording.keys and scored_on_the_way(context, backend):
        return  # generation has done, and shown, it all
    with recording:
        if not recording.keys:
            return
        plan = plan_references(context, backend, scored, encode, recording.keys)
        recording.write(*plan.refused(ScoringRecord, recording.keys))
        for requests in _apart(context, backend, plan, encode_prompt):
            asked = {request.id: request for request in requests}
            with closing(backend.score(requests)) as scores:
                for score in scores:
                    request = asked[score.id]
                    recording.write(scoring_record(request, score, recording.keys[score.id]), tokens=len(request))


def _apart(
    context: PassContext, backend: Backend, plan: Plan[ScoringRequest], encode_prompt: EncodedOnce
) -> list[list[ScoringRequest]]:
    """Return the references by what generation scores on its way and what it does not, as far as some are not done.

    Batches are formed from finished references too: apart, what is left is not batched with all that is done.
    """
    parts = [plan.requests]
    if scored_on_the_way(context, backend):
        prompts = with_riders(plan_prompts(context, backend, encode_prompt, ()).requests, plan.requests)
        riding = {prompt.id for prompt in prompts if prompt.reference is not None}
        parts = [[one for one in plan.requests if (one.id in riding) is rides] for rides in (False, True)]
    return [part for part in parts if not all(request.done for request in part)]
