"""The generation pass: what each variant replies to every held-out prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.config import GenerationConfig
from harness.engine.decoding import DecodingSettings, Reply, Request
from harness.engine.fused_layers import FusedLayers
from harness.engine.plain import NEUTRAL
from harness.engine.pool import LoadedModel
from harness.engine.replies import generate_replies
from harness.errors import HarnessError
from harness.passes.base import PassContext
from harness.passes.requests import EncodedOnce, context_length, cut_left, refuse_too_long, unfinished
from harness.store import GenerationRecord, RecordWriter
from harness.tokenization import encode_prompt
from harness.variants import Variant

NAME = "generation"


def run(context: PassContext) -> None:
    """Let every variant reply to every dialogue; records on disk are not made again."""
    encode = EncodedOnce(lambda tokenizer, dialogue: encode_prompt(tokenizer, dialogue.prompt))
    for variant in context.variants:
        _reply_as(context, variant, encode)


def decoding_settings(generation: GenerationConfig, seed: int) -> DecodingSettings:
    """Return the engine's settings for a run's ``generation`` section."""
    return DecodingSettings(
        max_new_tokens=generation.max_new_tokens,
        stop=generation.stop,
        temperature=generation.temperature,
        top_p=generation.top_p,
        seed=seed,
    )


def _reply_as(context: PassContext, variant: Variant, encode: EncodedOnce) -> None:
    task = f"{NAME} {variant.name}"
    keys = unfinished(context, NAME, variant, GenerationRecord, context.dialogues)
    context.progress.start(task, len(context.dialogues))
    context.progress.advance(task, len(context.dialogues) - len(keys))
    if keys:
        with (
            context.pool.use(variant) as loaded,
            FusedLayers(loaded.model, loaded.device).installed(),
            RecordWriter(context.folder.records_path(NAME, variant.name)) as out,
        ):
            plan = _plan(context, loaded, keys, encode)
            out.append(plan.without_work)
            context.progress.advance(task, len(plan.without_work))
            settings = decoding_settings(context.config.generation, context.config.seed)
            _tell_ignored_settings(context, loaded)
            for reply in generate_replies(
                loaded, plan.requests, settings, batch_tokens=context.config.batch_tokens, event=context.event
            ):
                out.append([_record(reply, plan)])
                context.progress.advance(task, 1, len(reply.tokens))
    context.progress.finish(task)


@dataclass(frozen=True)
class _Plan:
    requests: list[Request]
    keys: dict[str, str]
    prompt_tokens: dict[str, int]
    without_work: list[GenerationRecord]


def _plan(context: PassContext, loaded: LoadedModel, keys: dict[str, str], encode: EncodedOnce) -> _Plan:
    """Tokenise, and deal with what the context cannot hold as ``dialogues.too_long`` says."""
    most = context_length(loaded.model)
    room = most - context.config.generation.max_new_tokens
    policy = context.config.dialogues.too_long if context.config.dialogues else "skip"
    special = frozenset(loaded.tokenizer.all_special_ids)
    requests: list[Request] = []
    without: list[GenerationRecord] = []
    refused: list[str] = []
    for dialogue in context.dialogues:
        if dialogue.id not in keys:
            continue
        key = keys[dialogue.id]
        try:
            ids = encode(loaded.tokenizer, dialogue)
        except HarnessError as error:
            without.append(GenerationRecord(id=dialogue.id, key=key, error=str(error)))
            continue
        if len(ids) > room:
            refused.append(dialogue.id)
            ids = cut_left(ids, room, special) if policy == "cut-left" else []
        if ids:
            requests.append(Request(dialogue.id, tuple(ids)))
        else:
            without.append(GenerationRecord(id=dialogue.id, key=key, skipped="too long"))
    if policy == "error":
        refuse_too_long(refused, most, "the prompt with max_new_tokens")
    counts = {request.id: len(request) for request in requests}
    return _Plan(requests, keys, counts, without)


def _record(reply: Reply, plan: _Plan) -> GenerationRecord:
    head: dict[str, Any] = {"id": reply.id, "key": plan.keys[reply.id], "prompt_tokens": plan.prompt_tokens[reply.id]}
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
