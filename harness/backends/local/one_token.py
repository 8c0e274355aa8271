"""What one token costs a loaded model: what it leaves in the cache, and which experts it does not read.

Found out by running one. Configurations name these things in too many ways, and do not say what a model caches: with
latent attention it is neither the keys nor the values.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.local.device import is_out_of_memory
from harness.backends.local.transformers_types import CausalLM

_known: weakref.WeakKeyDictionary[Any, OneToken] = weakref.WeakKeyDictionary()


@dataclass(frozen=True)
class CachedLayer:
    """The bytes that a token takes in a layer's cache, and how many of the newest tokens the layer reads (0: all)."""

    size: int
    window: int


@dataclass(frozen=True)
class OneToken:
    """``layers``: the cache of every layer; None where a layer keeps anything but keys and values for each token.

    ``unread_bytes`` and ``unread_weights`` belong to experts that a token is not sent to; None if the model has experts
    that cannot be counted. ``routed``: whether there are experts.
    """

    layers: tuple[CachedLayer, ...] | None
    unread_bytes: int | None = 0
    unread_weights: int = 0
    routed: bool = False


def one_token(model: CausalLM) -> OneToken:
    """Run one token through ``model``, at the first call for it, and return what it cost."""
    if model not in _known:
        _known[model] = _run_one(model)
    return _known[model]


@torch.inference_mode()
def _run_one(model: CausalLM) -> OneToken:
    experts = [module for module in model.modules() if _is_experts(module)]
    stated = _states_experts(model)
    chosen: dict[int, int] = {}
    try:
        with ExitStack() as watched:
            for module in experts:
                watched.enter_context(_watch(module, chosen))
            cache = model(input_ids=torch.zeros((1, 1), dtype=torch.long, device=_device(model)), use_cache=True)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, NotImplementedError, MemoryError) as error:
        if is_out_of_memory(error):
            raise
        return OneToken(None, None if stated or experts else 0, routed=stated or bool(experts))
    layers = _layers(model, getattr(cache, "past_key_values", None))
    if not stated and not experts:
        return OneToken(layers)
    if not experts or len(chosen) < len(experts):
        return OneToken(layers, None, routed=True)
    unread = [(weight, 1.0 - chosen[id(module)] / module.num_experts) for module in experts for weight in _of(module)]
    return OneToken(
        layers,
        round(sum(weight.numel() * weight.element_size() * share for weight, share in unread)),
        round(sum(weight.numel() * share for weight, share in unread)),
        routed=True,
    )


def _device(model: CausalLM) -> torch.device:
    return model.get_input_embeddings().weight.device


def _layers(model: CausalLM, cache: Any) -> tuple[CachedLayer, ...] | None:
    """Return the sizes in a cache of one token."""
    from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

    layers = list(getattr(cache, "layers", ()))
    plain = all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) and layer.is_initialized for layer in layers)
    if not plain or len(layers) != model.config.get_text_config().num_hidden_layers:
        return None
    return tuple(
        CachedLayer(
            sum(part.numel() * part.element_size() for part in (layer.keys, layer.values)),
            int(getattr(layer, "sliding_window", None) or 0),
        )
        for layer in layers
    )


def _is_experts(module: Any) -> bool:
    """Return whether a module holds all experts of a layer, as transformers stacks them: [experts, out, in]."""
    return getattr(module, "num_experts", 0) > 1 and any(weight.dim() == 3 for weight in _of(module))


def _of(module: Any) -> list[torch.nn.Parameter]:
    own = module.parameters(recurse=False)
    return [weight for weight in own if weight.dim() > 0 and weight.shape[0] == module.num_experts]


def _states_experts(model: CausalLM) -> bool:
    stated = vars(model.config.get_text_config()).items()
    return any("expert" in name and type(value) is int and value > 1 for name, value in stated)


@contextmanager
def _watch(module: Any, chosen: dict[int, int]) -> Iterator[None]:
    """Note how many experts a module is asked to send each token to."""

    def note(_: Any, given: tuple[Any, ...], named: dict[str, Any]) -> None:
        index = named.get("top_k_index", given[1] if len(given) > 1 else None)
        if isinstance(index, torch.Tensor) and not index.is_floating_point():
            chosen[id(module)] = int(index.shape[-1])

    handle = module.register_forward_pre_hook(note, with_kwargs=True)
    try:
        yield
    finally:
        handle.remove()
