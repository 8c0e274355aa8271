"""The generation pass: what each variant replies to every held-out prompt."""

from __future__ import annotations

from contextlib import ExitStack, closing
from typing import Any

from harness.backends.base import Capability, DecodingSettings, Reply, Score
from harness.passes.base import Conditions, Pass, PassContext, Recording
from harness.passes.plans import (
    EncodedOnce,
    encode_dialogue_prompt,
    encode_reference,
    plan_prompts,
    plan_references,
    scores_while_generating,
    scoring_record,
    with_joint_references,
    with_references,
)
from harness.store.schema import GenerationRecord, ScoringRecord
from harness.variants.model import Variant


def run(context: PassContext) -> None:
    """Generate every variant's reply to every dialogue; existing records are kept.

    If the run includes scoring, most references are scored here too and their records written.
    """
    encode, references = EncodedOnce(encode_dialogue_prompt), EncodedOnce(encode_reference)
    for variant in context.variants:
        _generate(context, variant, encode, references)


def settings(on: Conditions) -> dict[str, Any]:
    return {
        **on.config.generation.model_dump(mode="json"),
        "seed": on.config.seed if on.config.generation.temperature else None,
        "too_long": on.too_long,
    }


PASS = Pass(
    GenerationRecord,
    needs=frozenset({Capability.TOKENS, Capability.GENERATE}),
    settings=settings,
    run=run,
    needs_references=True,
)


def _generate(context: PassContext, variant: Variant, encode: EncodedOnce, encode_scored: EncodedOnce) -> None:
    backend = context.backends.of(variant)
    scored = with_references(context) if scores_while_generating(context, backend) else []
    with ExitStack() as made:
        replies = made.enter_context(Recording(context, GenerationRecord, variant, context.dialogues))
        scores = Recording(context, ScoringRecord, variant, scored)
        if scored:
            made.enter_context(scores)
        if not replies.keys and not scores.keys:
            return
        prompts = plan_prompts(context, backend, encode, replies.keys)
        references = plan_references(context, backend, scored if scores.keys else [], encode_scored, scores.keys)
        replies.write(*prompts.refused(GenerationRecord, replies.keys))
        scores.write(*references.refused(ScoringRecord, scores.keys))
        requests = with_joint_references(prompts.requests, references.requests)
        lengths = {request.id: len(request) for request in requests}
        referred = {request.id: request for request in references.requests}
        decoding = DecodingSettings(**dict(context.config.generation), seed=context.config.seed)
        answers = backend.generate(requests, decoding)
        for answer in made.enter_context(closing(answers)):
            name = answer.id
            if isinstance(answer, Score):
                reference = referred[name]
                scores.write(scoring_record(reference, answer, scores.keys[name]), tokens=len(reference))
            else:
                replies.write(_record(answer, replies.keys[name], lengths[name]), tokens=len(answer.tokens))


def _record(reply: Reply, key: str, prompt_tokens: int) -> GenerationRecord:
    head: dict[str, Any] = {"id": reply.id, "key": key, "prompt_tokens": prompt_tokens}
    if reply.error is not None:
        return GenerationRecord(**head, error=reply.error)
    return GenerationRecord(
        **head, reply=reply.text, tokens=reply.tokens, reply_tokens=len(reply.tokens), finish=reply.finish
    )
