"""Replies by transformers' own ``generate``: slower, and right for every architecture it knows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Literal

import torch

from harness.backends.local.sampling import StopStrings, end_tokens
from harness.backends.local.transformers_types import CausalLM

if TYPE_CHECKING:
    from harness.backends.base import DecodingSettings, Reply, ReplyRequest
    from harness.backends.local.pool import LoadedModel


# Settings of a model's generation config that change its replies; decoding here acts as if they were these.
NEUTRAL: dict[str, Any] = {
    "repetition_penalty": 1.0, "no_repeat_ngram_size": 0, "suppress_tokens": None, "begin_suppress_tokens": None,
    "bad_words_ids": None, "num_beams": 1,
}  # fmt: skip


def ignored_settings(model: CausalLM) -> dict[str, Any]:
    """Return the model's own generation settings that would change its replies elsewhere, but are not used here."""
    stated = getattr(model, "generation_config", None)
    found = {name: getattr(stated, name, None) for name in NEUTRAL}
    return {name: value for name, value in found.items() if value not in (NEUTRAL[name], None)}


@torch.inference_mode()
def generate_batch(loaded: LoadedModel, batch: list[ReplyRequest], settings: DecodingSettings) -> list[Reply]:
    """Return the replies to one batch; sampled ones (a temperature is set) must come alone, for their seed's sake."""
    submitted = time.perf_counter_ns()
    longest = max(len(request) for request in batch)
    ids = torch.zeros((len(batch), longest), dtype=torch.long)
    mask = torch.zeros_like(ids)
    for index, request in enumerate(batch):
        ids[index, longest - len(request) :] = torch.tensor(request.ids)
        mask[index, longest - len(request) :] = 1
    options = _options(loaded, batch, settings)
    made = loaded.model.generate(
        ids.to(loaded.device), attention_mask=mask.to(loaded.device), max_new_tokens=settings.max_new_tokens, **options
    )
    now = time.perf_counter_ns()
    return [
        _reply(loaded, request, tokens, settings, submitted, now)
        for request, tokens in zip(batch, made[:, longest:].tolist(), strict=True)
    ]


def _options(loaded: LoadedModel, batch: list[ReplyRequest], settings: DecodingSettings) -> dict[str, Any]:
    sampling = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    options: dict[str, Any] = {"pad_token_id": 0, **NEUTRAL, **sampling}
    if settings.fixed_length:
        options["min_new_tokens"] = settings.max_new_tokens
    if settings.temperature > 0:
        assert len(batch) == 1
        torch.manual_seed(hash_seed(settings.seed, batch[0].id))
        options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    return options


def hash_seed(seed: int, request: str) -> int:
    """Return a seed that depends on the run's seed and the dialogue alone."""
    import hashlib

    digest = hashlib.sha256(f"{seed}\x1f{request}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _reply(
    loaded: LoadedModel, request: ReplyRequest, made: list[int], settings: DecodingSettings, submitted: int, now: int
) -> Reply:
    from harness.backends.base import Reply

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
