"""The generation pass: what each variant replies to every held-out prompt."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack, closing
from typing import Any

from harness.backends.base import Backend, Capability, DecodingSettings, Reply, ReplyRequest, Score, ScoringRequest
from harness.dialogues.tokens import Tokenizer, can_write
from harness.passes.base import Conditions, Pass, PassContext, Recording
from harness.passes.plans import (
    EncodedOnce,
    encode_dialogue_prompt,
    encode_reference,
    plan_prompts,
    plan_references,
    scores_while_generating,
    scoring_record,
    tokenizer_of,
    with_joint_references,
    with_references,
)
from harness.progress import EventKind
from harness.store.schema import GenerationRecord, ScoringRecord
from harness.time_left import Work, seconds_a_step
from harness.variants.model import Variant


def run(context: PassContext) -> None:
    """Generate every variant's reply to every dialogue; existing records are kept.

    If the run includes scoring, most references are scored here too and their records written.
    """
    _warn_of_idle_stops(context)
    encode, references = EncodedOnce(encode_dialogue_prompt), EncodedOnce(encode_reference)
    for variant in context.variants:
        _generate(context, variant, encode, references)
        context.replied(variant.name)


def settings(on: Conditions) -> dict[str, Any]:
    found = {
        **on.config.generation.model_dump(mode="json"),
        "seed": on.config.seed if on.config.generation.temperature else None,
        "too_long": on.too_long,
    }
    if on.config.generation.stop:
        found["stops_among"] = "all tokens"  # 0.1.0 did not find stop strings that are special tokens
    return found


PASS = Pass(
    GenerationRecord,
    needs=frozenset({Capability.TOKENS, Capability.GENERATE}),
    settings=settings,
    run=run,
    needs_references=True,
    shared=True,
    apart=True,
)


def _generate(context: PassContext, variant: Variant, encode: EncodedOnce, encode_scored: EncodedOnce) -> None:
    backend = context.backends.of(variant)
    context.fact(f"context_length/{variant.name}", backend.context_length)
    scored = with_references(context) if scores_while_generating(context, backend) else []
    left = context.time_left
    with ExitStack() as made:
        replies = made.enter_context(Recording(context, GenerationRecord, variant, context.dialogues))
        scores = Recording(context, ScoringRecord, variant, scored, on_the_way=True)
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
        left.begin(PASS.name, variant.name, _work(context, backend, requests, references.requests))
        if scored:
            left.covered(ScoringRecord.measured_by)
        decoding = DecodingSettings(**dict(context.config.generation), seed=context.config.seed)
        answers = backend.generate(requests, decoding)
        for answer in made.enter_context(closing(answers)):
            name = answer.id
            if isinstance(answer, Score):
                reference = referred[name]
                left.asked(len(reference))
                scores.write(scoring_record(reference, answer, scores.keys[name]), tokens=len(reference))
            else:
                marked = _with_special_tokens(answer, tokenizer_of(backend), decoding.stop)
                left.replied(len(answer.tokens), answer.finish != "length", seconds_a_step(answer.stamps_ns))
                record = _record(answer, replies.keys[name], lengths[name], marked)
                replies.write(record, tokens=len(answer.tokens))


def _work(
    context: PassContext, backend: Backend, prompts: Sequence[ReplyRequest], references: Sequence[ScoringRequest]
) -> Work:
    if Capability.JOINT not in backend.capabilities:  # nothing is heard of a prompt before its reply
        return Work(sum(not prompt.done for prompt in prompts))
    read = sum(len(one) for one in references if not one.done) or sum(len(one) for one in prompts if not one.done)
    waiting = sum(not prompt.done for prompt in prompts)
    return Work(waiting, read, longest=context.config.generation.max_new_tokens)


def _warn_of_idle_stops(context: PassContext) -> None:
    """Record the stop strings that no reply can contain."""
    stops = context.config.generation.stop
    if not stops:
        return
    tokenizer = tokenizer_of(context.backends.of(context.variants[0]))
    for stop in stops:
        if not can_write(tokenizer, stop):
            context.event(EventKind.STOP_NEVER_OCCURS, {"stop": stop, "detail": "the tokenizer cannot write it"})


def _with_special_tokens(reply: Reply, tokenizer: Tokenizer, stops: Sequence[str]) -> str | None:
    """Return the reply's text up to a stop string, with its special tokens; None if it has none."""
    if set(reply.tokens).isdisjoint(tokenizer.all_special_ids):
        return None
    text = tokenizer.decode(reply.tokens, skip_special_tokens=False)
    return text[: min((text.find(stop) for stop in stops if stop in text), default=len(text))]


def _record(reply: Reply, key: str, prompt_tokens: int, marked: str | None) -> GenerationRecord:
    head: dict[str, Any] = {"id": reply.id, "key": key, "prompt_tokens": prompt_tokens}
    if reply.error is not None:
        return GenerationRecord(**head, error=reply.error)
    return GenerationRecord(
        **head,
        reply=reply.text,
        marked=marked,
        tokens=reply.tokens,
        reply_tokens=len(reply.tokens),
        finish=reply.finish,
    )
