"""How well a merge preserved the weights: ‖W_merged − (W_train + ΔW)‖ / ‖ΔW‖, layer by layer.

``finetune merge`` records this in ``merge.json``. For merges made with other tools it is computed here, one weight at
a time. Both report the ten worst layers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from harness.backends.local.loading import compute_dtype, own_quantization
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.variants.artifacts import ModelArtifact, check_adapter_folder, check_model_folder, resolve_model
from harness.variants.merge_report import LayerError, read_merge_report
from harness.variants.model import Variant
from harness.variants.nf4 import dequantize, quantize
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
    if check_adapter_folder(str(adapter.adapter)).config.get("use_dora"):
        return {"source": "none", "reason": "its adapter is a DoRA, which does not change the weights by a sum"}
    with pool.use(adapter) as loaded:
        layers = sorted(_layers(loaded, adapter, merged), key=lambda layer: -layer.relative_error)
    if not layers:
        return {"source": "none", "reason": "its tensors have other names than its base's"}
    return {
        "source": "computed",
        "mean_relative_error": sum(layer.relative_error for layer in layers) / len(layers),
        "mean_kept": sum(layer.kept for layer in layers) / len(layers),
        "worst_layers": [layer.model_dump() for layer in layers[:WORST]],
    }


@torch.inference_mode()
def _layers(loaded: LoadedModel, adapter: Variant, merged: Variant) -> Iterator[LayerError]:
    base, made = check_model_folder(resolve_model(adapter.model)), check_model_folder(resolve_model(merged.model))
    for name, module in loaded.model.named_modules():
        tensor = f"{name}.weight"
        if not hasattr(module, "get_delta_weight") or tensor not in base.tensors or tensor not in made.tensors:
            continue
        before = _trained_over(_read(base, tensor), adapter, compute_dtype(loaded.model))
        delta = module.get_delta_weight(module.active_adapters[0]).float().cpu()
        yield LayerError.of(name, before, delta, _read(made, tensor).float() - before)


def _read(model: ModelArtifact, tensor: str) -> torch.Tensor:
    from safetensors import safe_open

    with safe_open(model.file_of[tensor], framework="pt") as file:
        value: torch.Tensor = file.get_tensor(tensor)
        return value


def _trained_over(weight: torch.Tensor, adapter: Variant, dtype: torch.dtype) -> torch.Tensor:
    """Return the weight that the adapter was trained on, in fp32: dequantised if the training was 4-bit.

    It is quantised again from the file: on some CPUs bitsandbytes repacks a loaded layer, and dequantising that gives
    wrong values.
    """
    if adapter.quantization != "nf4":
        return weight.float()
    return dequantize(quantize(weight.to(dtype))).float()
