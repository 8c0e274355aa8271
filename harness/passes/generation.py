"""The generation pass: what each variant replies to every held-out prompt."""

from __future__ import annotations

from typing import Any

from harness.backends.base import DecodingSettings, Reply
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.generate import NEUTRAL
from harness.backends.local.joint import JointWork
from harness.backends.local.pool import LoadedModel
from harness.backends.local.replies import generate_replies
from harness.config import GenerationConfig
from harness.passes.base import PassContext
from harness.passes.joint import ScoringOnTheWay, asked_for_both
from harness.passes.plans import EncodedOnce, encode_dialogue_prompt, encode_reference, plan_prompts, unfinished
from harness.store.folder import RecordWriter
from harness.store.schema import GenerationRecord
from harness.variants.model import Variant

NAME = "generation"


def run(context: PassContext) -> None:
    """Let every variant reply to every dialogue; records on disk are not made again.

    Where the run asks for scores too, most references are scored on the way, and their records made here.
    """
    encode, references = EncodedOnce(encode_dialogue_prompt), EncodedOnce(encode_reference)
    for variant in context.variants:
        _reply_as(context, variant, encode, references)


def decoding_settings(generation: GenerationConfig, seed: int) -> DecodingSettings:
    """Return the engine's settings for a run's ``generation`` section."""
    return DecodingSettings(
        max_new_tokens=generation.max_new_tokens,
        stop=generation.stop,
        temperature=generation.temperature,
        top_p=generation.top_p,
        seed=seed,
    )


def _reply_as(context: PassContext, variant: Variant, encode: EncodedOnce, references: EncodedOnce) -> None:
    task = f"{NAME} {variant.name}"
    keys = unfinished(context, NAME, variant, GenerationRecord, context.dialogues)
    context.progress.start(task, len(context.dialogues))
    context.progress.advance(task, len(context.dialogues) - len(keys))
    scoring = ScoringOnTheWay.start(context, variant) if asked_for_both(context) else None
    if keys or (scoring and scoring.missing):
        with (
            context.pool.use(variant) as loaded,
            FusedLayers(loaded.model, loaded.device).installed(),
            RecordWriter(context.folder.records_path(NAME, variant.name)) as out,
        ):
            plan = plan_prompts(context, loaded, encode)
            refused = [GenerationRecord(id=i, key=keys[i], **why) for i, why in plan.refusals.items() if i in keys]
            out.append(refused)
            context.progress.advance(task, len(refused))
            settings = decoding_settings(context.config.generation, context.config.seed)
            _tell_ignored_settings(context, loaded)
            joint = scoring.work(loaded, plan, set(keys), settings, references) if scoring else JointWork()
            riding = {prompt.id for prompt in joint.prompts()}
            alone = [request for request in plan.requests if request.id in keys and request.id not in riding]
            lengths = {request.id: len(request) for request in plan.requests}
            for reply in generate_replies(
                loaded, alone, settings, batch_tokens=context.config.batch_tokens, event=context.event, joint=joint
            ):
                out.append([_record(reply, keys[reply.id], lengths[reply.id])])
                context.progress.advance(task, 1, len(reply.tokens))
    if scoring:
        scoring.finish()
    context.progress.finish(task)


def _record(reply: Reply, key: str, prompt_tokens: int) -> GenerationRecord:
    head: dict[str, Any] = {"id": reply.id, "key": key, "prompt_tokens": prompt_tokens}
    if reply.error is not None:
        return GenerationRecord(**head, error=reply.error)
    return GenerationRecord(
        **head, reply=reply.text, tokens=reply.tokens, reply_tokens=len(reply.tokens), finish=reply.finish
    )


def _tell_ignored_settings(context: PassContext, loaded: LoadedModel) -> None:
    """Say which of a model's own generation settings would change its replies elsewhere but are not used here."""
    stated = getattr(loaded.model, "generation_config", None)
    found = {name: getattr(stated, name, None) for name in NEUTRAL}
    ignored = {name: value for name, value in found.items() if value not in (NEUTRAL[name], None)}
    if ignored:
        context.event("generation-config-ignored", {"variant": loaded.variant.name, **ignored})
