"""The scoring pass: the likelihood of the doctor's own reply under each variant.

Teacher-forced −log p of the reference given the prompt, tokenised like lm-evaluation-harness, whose ``loglikelihood``
gives the same numbers for the same strings. If the run includes generation, that pass has scored most references
already, and this one scores the rest.
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
    scores_while_generating,
    scoring_record,
    with_joint_references,
    with_references,
)
from harness.store.schema import ScoringRecord
from harness.time_left import Work
from harness.variants.model import Variant


def run(context: PassContext) -> None:
    """Score every dialogue with a reference under every variant; existing records are kept."""
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
    shared=True,
    reads=lambda variants, config: {variant.name: 1 for variant in variants},
)


def _score_variant(context: PassContext, variant: Variant, encode: EncodedOnce, encode_prompt: EncodedOnce) -> None:
    backend = context.backends.of(variant)
    scored = with_references(context)
    recording = Recording(context, ScoringRecord, variant, scored)
    if not recording.keys and scores_while_generating(context, backend):
        return  # generation has scored them all and shown the progress
    plan = plan_references(context, backend, scored, encode, recording.keys)
    parts = _unscored_parts(context, backend, plan, encode_prompt) if recording.keys else []
    if context.processes > 1 and not parts:
        return
    with recording:
        if not recording.keys:
            return
        recording.write(*plan.refused(ScoringRecord, recording.keys))
        left = [request for request in plan.requests if not request.done]
        context.time_left.begin(PASS.name, variant.name, Work(len(left), sum(map(len, left))))
        for requests in parts:
            by_id = {request.id: request for request in requests}
            with closing(backend.score(requests)) as scores:
                for score in scores:
                    request = by_id[score.id]
                    context.time_left.done(read=len(request))
                    recording.write(scoring_record(request, score, recording.keys[score.id]), tokens=len(request))


def _unscored_parts(
    context: PassContext, backend: Backend, plan: Plan[ScoringRequest], encode_prompt: EncodedOnce
) -> list[list[ScoringRequest]]:
    """Split the references into those that generation cannot score and those it can; drop parts that are all done.

    Batches are formed from finished references too, so without the split the rest would be batched with all of them.
    """
    parts = [plan.requests]
    if scores_while_generating(context, backend):
        prompts = with_joint_references(plan_prompts(context, backend, encode_prompt, ()).requests, plan.requests)
        joint = {prompt.id for prompt in prompts if prompt.reference is not None}
        # Of several processes, the last one scores what generation left: it alone knows what the others have scored.
        later = (False, True) if context.processes == 1 else (False,)
        parts = [[one for one in plan.requests if (one.id in joint) is with_reply] for with_reply in later]
    return [part for part in parts if not all(request.done for request in part)]
