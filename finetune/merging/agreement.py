"""The last check of a merge: does the saved model compute what the adapter computes, both loaded as when measured?

It compares logits on a few texts, and on tokens spread over the vocabulary, whose embeddings the texts may not use.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.local.loading import context_length
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.backends.local.sharing import not_repacked
from harness.dialogues.tokens import encode_prompt
from harness.errors import HarnessError
from harness.variants.model import Variant

TEXTS = (
    "### Instruction:\nI have had a fever and a dry cough for three days. Should I see a doctor?\n\n### Response:\n",
    "Drink plenty of water and rest. If you find it hard to breathe, call for help at once.",
    "The patient is 54 years old, takes 500 mg of metformin twice a day, and reports pain in the left knee.",
)
SPREAD = 64  # tokens of the vocabulary
SAFETY = 3.0
LEAST_ALLOWED = 1e-4


@dataclass(frozen=True)
class Agreement:
    """Differences of logits, relative to the adapter's own: of the merged model, of the base, and the most allowed."""

    difference: float
    adapter_effect: float
    allowed: float


def check_agreement(merged: Variant, adapter: Variant, device: str, *, lossy: bool = False) -> Agreement:
    """Compare the merged model with the adapter; raise HarnessError if rounding cannot explain the difference.

    ``lossy``: the strategy rounds to 4 bits again, which may lose all of ΔW but does nothing worse.
    """
    with_adapter, without, ids = _adapter_logits(adapter, device)
    with SharedPool((merged,), device).use(merged) as loaded:
        found, allowed, routed = _logits(loaded, ids), rounding(loaded.model), _has_router(loaded.model)
    difference = _distance(found, with_adapter, routed=routed)
    effect = _distance(without, with_adapter, routed=routed)
    allowed += 2 * effect if lossy else 0.0
    if not difference <= allowed:
        raise HarnessError(
            f"The merged model does not compute what the adapter computes: its logits differ by {difference:.2%}, of "
            f"which rounding explains {allowed:.2%} (the adapter changes them by {effect:.2%}). Nothing was saved."
        )
    return Agreement(difference, effect, allowed)


def rounding(model: Any) -> float:
    """Return how far rounding may take the logits of two faithful models apart, relative to their size.

    A value rounded to a dtype of unit roundoff u = eps/2 is off by up to u of its size, 0.41 u in the root mean square.
    Every module rounds its output once, and the errors of N modules are independent, so they add up to √N of one; two
    models that round differently (one holds W + ΔW rounded, the other computes both) are √2 of that apart. Faithful
    merges of twelve architectures with 8 layers were 0.1–0.8 u √N apart in bfloat16 and float16. Three times the
    expected value is allowed. Sums in float32 round more often than once a module, hence the least that is allowed.
    """
    modules = sum(next(module.parameters(recurse=False), None) is not None for module in model.modules())
    expected = 0.41 * math.sqrt(2 * modules) * torch.finfo(model.dtype).eps / 2
    return max(SAFETY * expected, LEAST_ALLOWED)


def _adapter_logits(adapter: Variant, device: str) -> tuple[torch.Tensor, torch.Tensor, list[list[int]]]:
    base = adapter.model_copy(update={"name": "base", "kind": "base", "adapter": None})
    pool = SharedPool((adapter, base), device)
    with pool.use(adapter) as loaded:
        ids = _token_ids(loaded)
        with_adapter = _logits(loaded, ids)
    with pool.use(base) as loaded:
        without = _logits(loaded, ids)
    pool.close()
    return with_adapter, without, ids


def _token_ids(loaded: LoadedModel) -> list[list[int]]:
    rows = loaded.model.get_input_embeddings().weight.shape[0]
    room = context_length(loaded.variant.model)
    texts = [encode_prompt(loaded.tokenizer, text) for text in TEXTS]
    return [ids[:room] for ids in (*texts, [row * rows // SPREAD for row in range(SPREAD)])]


@torch.inference_mode()
def _logits(loaded: LoadedModel, rows: list[list[int]]) -> torch.Tensor:
    """Return the logits of all texts (tokens × vocabulary, float64), centred: a shift changes no probability."""
    found = []
    for ids in rows:
        given = torch.tensor([ids], device=loaded.device)
        with not_repacked(loaded.model):  # that kernel rounds to bfloat16 whatever the model's dtype
            logits = loaded.model(input_ids=given, use_cache=False).logits[0].double().cpu()
        found.append(logits - logits.mean(dim=-1, keepdim=True))
    return torch.cat(found)


def _distance(found: torch.Tensor, wanted: torch.Tensor, *, routed: bool) -> float:
    """Return ‖found − wanted‖/‖wanted‖ (Frobenius) or, if the model has a router, the median token's.

    A router may send a token to another expert for the least rounding. That token then differs by far more than
    rounding, and few others do.
    """
    if routed:
        return float(((found - wanted).norm(dim=-1) / wanted.norm(dim=-1)).median())
    return float((found - wanted).norm() / wanted.norm())


def _has_router(model: Any) -> bool:
    config = model.config.get_text_config()
    return any(getattr(config, name, None) for name in ("num_local_experts", "num_experts", "n_routed_experts"))
