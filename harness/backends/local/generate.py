"""Replies from transformers' own ``generate``: slower, but correct for every architecture it supports."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Any, Literal

import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest
from harness.backends.local.pool import LoadedModel
from harness.backends.local.rope import forget_longer_rows
from harness.backends.local.sampling import NOT_FINITE, StopStrings, end_tokens, seed_digest
from harness.backends.local.scoring import left_padded
from harness.backends.local.transformers_types import CausalLM

# Not reported as ignored: ids that end a reply, which are obeyed; the sampling and lengths that a run's own config
# decides; and what changes how transformers computes or what it returns, but no reply.
NOT_REPORTED = frozenset({
    "bos_token_id", "eos_token_id", "pad_token_id", "do_sample", "temperature", "top_p", "top_k", "max_length",
    "max_new_tokens", "transformers_version", "use_cache", "cache_implementation", "cache_config", "output_attentions",
    "output_hidden_states", "output_scores", "output_logits", "return_dict_in_generate",
})  # fmt: skip
OFF: tuple[Any, ...] = (None, False, 0, 1, [], {})  # a penalty of 1 and a single beam are none


def ignored_settings(model: CausalLM) -> dict[str, Any]:
    """Return the model's own generation settings that are ignored here but would change its replies elsewhere."""
    stated = getattr(model, "generation_config", None)
    found = {} if stated is None else stated.to_diff_dict()
    hidden = {name for name, value in found.items() if name.startswith("_") or value in OFF}
    return {name: value for name, value in found.items() if name not in NOT_REPORTED | hidden}


@contextlib.contextmanager
def generation_settings(model: CausalLM, **settings: Any) -> Iterator[None]:
    """Make ``model.generate`` use these settings alone within the block, and nothing that the model states itself.

    ``generate`` takes every setting that a caller leaves out from the model's own, penalties included.
    """
    from transformers import GenerationConfig

    before = model.generation_config
    model.generation_config = GenerationConfig(**settings)  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        model.generation_config = before


class FiniteLogits:
    """A logits processor that notes the rows whose logits are not finite, and makes them so."""

    def __init__(self) -> None:
        self._steps: list[torch.Tensor] = []

    def __call__(self, ids: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        self._steps.append(logits.max(dim=-1).values.isfinite())
        return torch.nan_to_num(logits, neginf=float("-inf"))

    def until(self) -> list[int]:
        """Return for each row how many of its first steps had finite logits."""
        steps = torch.stack([torch.ones_like(self._steps[0]), *self._steps]).long()
        return (steps.cumprod(dim=0).sum(dim=0) - 1).tolist()


@torch.inference_mode()
def generate_batch(loaded: LoadedModel, batch: list[ReplyRequest], settings: DecodingSettings) -> list[Reply]:
    """Return the replies to one batch. With a temperature a batch must hold one request, for a reproducible seed."""
    forget_longer_rows(loaded.model)
    submitted = time.perf_counter_ns()
    ids, mask = left_padded([request.ids for request in batch], 0)
    ends = frozenset() if settings.fixed_length else end_tokens(loaded.model, loaded.tokenizer)
    finite = FiniteLogits()
    with generation_settings(loaded.model, **_options(batch, settings, ends)):
        made = loaded.model.generate(
            ids.to(loaded.device), attention_mask=mask.to(loaded.device), logits_processor=[finite]
        )
    now = time.perf_counter_ns()
    return [
        _reply(loaded, request, tokens, usable, ends, settings, submitted, now)
        for request, tokens, usable in zip(batch, made[:, ids.shape[1] :].tolist(), finite.until(), strict=True)
    ]


def _options(batch: list[ReplyRequest], settings: DecodingSettings, ends: frozenset[int]) -> dict[str, Any]:
    options: dict[str, Any] = {"pad_token_id": 0, "eos_token_id": sorted(ends) or None}
    options["max_new_tokens"] = settings.max_new_tokens
    if settings.temperature > 0:
        assert len(batch) == 1
        torch.manual_seed(int.from_bytes(seed_digest(settings.seed, batch[0].id)[:8], "big") >> 1)
        options |= {"do_sample": True, "temperature": settings.temperature, "top_p": settings.top_p, "top_k": 0}
    return options


def _reply(
    loaded: LoadedModel,
    request: ReplyRequest,
    made: list[int],
    usable: int,
    ends: frozenset[int],
    settings: DecodingSettings,
    submitted: int,
    now: int,
) -> Reply:
    """Return the reply in the tokens ``made``, of which the first ``usable`` were chosen from finite logits."""
    stops = StopStrings(() if settings.fixed_length else settings.stop, loaded.tokenizer)
    finish: Literal["eos", "stop", "length"] = "length"
    text: str | None = None
    tokens: list[int] = []
    for place, token in enumerate(made):
        if place >= usable:
            so_far = loaded.tokenizer.decode(tokens, skip_special_tokens=True)
            return Reply(request.id, tuple(tokens), so_far, None, submitted, (now,) * (place + 1), NOT_FINITE)
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
