"""How well a merge preserved the weights: ‖W_merged − (W_train + ΔW)‖ / ‖ΔW‖, layer by layer.

``finetune merge`` records this in ``merge.json``. For merges made with other tools it is computed here, one weight at
a time: on a GPU over a copy of the weights that the run holds there anyway, if it fits. Both report the ten worst
layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from harness.backends.base import DoesNotFitError
from harness.backends.local.adapter_changes import AttachedAdapter, attach, unquantized
from harness.backends.local.device import is_out_of_memory
from harness.backends.local.loading import load_weights, own_quantization
from harness.backends.local.pool import SharedPool
from harness.backends.local.transformers_types import CausalLM
from harness.errors import InputError
from harness.variants.artifacts import resolve_model
from harness.variants.merge_report import LayerError, read_merge_report
from harness.variants.model import Variant
from harness.variants.relations import adapter_of

WORST = 10


def weight_errors(merged: Variant, variants: Sequence[Variant], pool: SharedPool) -> dict[str, Any]:
    """Return a merged variant's errors, or why they are unknown; its adapter is looked for in ``variants``."""
    return _of_merge_report(merged) or _computed(merged, variants, pool)


def _of_merge_report(variant: Variant) -> dict[str, Any] | None:
    report = read_merge_report(resolve_model(variant.model))
    if report is None or variant.model_digest not in (None, report.model_digest):
        return None
    return {
        "source": "merge.json",
        "strategy": report.strategy,
        "mean_relative_error": report.mean_relative_error,
        "mean_kept": report.mean_kept,
        "worst_layers": [layer.model_dump() for layer in report.worst_layers[:WORST]],
    }


def _computed(merged: Variant, variants: Sequence[Variant], pool: SharedPool) -> dict[str, Any]:
    adapter = adapter_of(merged, variants)
    if adapter is None:
        return {"source": "none", "reason": "the run does not know which adapter it was merged from"}
    if own_quantization(merged.model) is not None:
        return {"source": "none", "reason": "its weights are stored quantised"}
    try:
        layers = sorted(_layers(adapter, merged, pool), key=lambda layer: -layer.relative_error)
    except InputError as error:  # an adapter that can be measured and not merged
        return {"source": "none", "reason": str(error)}
    if not layers:
        return {"source": "none", "reason": "its parameters have other names or shapes than its base's"}
    return {
        "source": "computed",
        "mean_relative_error": sum(layer.relative_error for layer in layers) / len(layers),
        "mean_kept": sum(layer.kept for layer in layers) / len(layers),
        "worst_layers": [layer.model_dump() for layer in layers[:WORST]],
    }


def _layers(adapter: Variant, merged: Variant, pool: SharedPool) -> list[LayerError]:
    """Return the error of every parameter that the adapter changes."""
    base = adapter.model_copy(update={"kind": "base", "adapter": None})
    if pool.device != "cpu" and (found := _over_loaded(base, adapter, merged, pool)) is not None:
        return found
    model = load_weights(merged, "cpu")  # where files are only mapped
    return list(_errors(model, attach(base, Path(str(adapter.adapter)), "cpu")))


def _over_loaded(base: Variant, adapter: Variant, merged: Variant, pool: SharedPool) -> list[LayerError] | None:
    """Return the errors over the pool's weights, without reading files again; None if a copy of them does not fit."""
    try:
        with pool.use(merged) as made, pool.use(unquantized(base)) as plain:
            model = copy.deepcopy(plain.model)
            return list(_errors(made.model, attach(base, Path(str(adapter.adapter)), pool.device, model=model)))
    except DoesNotFitError:
        return None
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None


def _errors(model: CausalLM, attached: AttachedAdapter) -> Iterator[LayerError]:
    made = dict(model.named_parameters(remove_duplicate=False))
    for one in attached.merge():
        found = made.get(one.name)
        if found is not None and found.shape == one.target.shape and not torch.equal(one.before, one.target):
            yield LayerError.of(one.name, one.before, one.target - one.before, found.detach().float() - one.before)
