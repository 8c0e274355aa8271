"""Replies from transformers' own ``generate``: slower, but correct for every architecture it supports."""

from __future__ import annotations

import time
from typing import Any, Literal

import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest
from harness.backends.local.pool import LoadedModel
from harness.backends.local.sampling import StopStrings, end_tokens, seed_digest
from harness.backends.local.scoring import left_padded
from harness.backends.local.transformers_types import CausalLM

# Settings of a model's generation config that change its replies. Decoding here always uses these values instead.
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": None, "begin_suppress_tokens": None,
    "bad_words_ids": None, "num_beams": 1,
}  # fmt: skip


def ignored_settings(model: CausalLM) -> dict[str, Any]:
    """Return the model's own generation settings that are ignored here but would change its replies elsewhere."""
    stated = getattr(model, "generation_config", None)
    found = {name: getattr(stated, name, None) for name in NEUTRAL}
    return {name: value for name, value in found.items() if value not in (NEUTRAL[name], None)}


@torch.inference_mode()
def generate_batch(loaded: LoadedModel, batch: list[ReplyRequest], settings: DecodingSettings) -> list[Reply]:
    """Return the replies to one batch. With a temperature a batch must hold one request, for a reproducible seed."""
    submitted = time.perf_counter_ns()
    ids, mask = left_padded([request.ids for request in batch], 0)
    options = _options(loaded, batch, settings)
    made = loaded.model.generate(
        ids.to(loaded.device), attention_mask=mask.to(loaded.device), max_new_tokens=settings.max_new_tokens, **options
    )
    now = time.perf_counter_ns()
    return [
        _reply(loaded, request, tokens, settings, submitted, now)
        for request, tokens in zip(batch, made[:, ids.shape[1] :].tolist(), strict=True)
    ]


def _options(loaded: LoadedModel, batch: list[ReplyRequest], settings: DecodingSettings) -> dict[str, Any]:
    sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    options: dict[str, Any] = {"pad_token_id": 0, **NEUTRAL, **sampling}
    if settings.fixed_length:
        options["min_new_tokens"] = settings.max_new_tokens
    if settings.temperature > 0:
        assert len(batch) == 1
        torch.manual_seed(int.from_bytes(seed_digest(settings.seed, batch[0].id)[:8], "big") >> 1)
        options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    return options


def _reply(
    loaded: LoadedModel, request: ReplyRequest, made: list[int], settings: DecodingSettings, submitted: int, now: int
) -> Reply:
    ends = frozenset() if settings.fixed_length else end_tokens(loaded.model, loaded.tokenizer)
    stops = StopStrings(() if settings.fixed_length else settings.stop, loaded.tokenizer)
    finish: Literal["eos", "stop", "length"] = "length"
    text: str | None = None
    tokens: list[int] = []
    for token in made:
        if token in ends:
            finish = "eos"
            break
        tokens.append(token)
        text = stops.cut(tokens)
        if text is not None:
            finish = "stop"
            tokens.pop()
            break
    if text is None:
        text = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
    stamps = (now,) * (len(tokens) + (finish != "length"))
    return Reply(request.id, tuple(tokens), text, finish, submitted, stamps)
