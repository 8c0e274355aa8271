"""Check that an adapter matches its base, was loaded completely, and changes the model's output."""

from __future__ import annotations

import re

import torch

from harness.backends.local.loading import skeleton
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.errors import InputError
from harness.variants.artifacts import AdapterArtifact
from harness.variants.model import Variant
from harness.variants.weights import is_all_zero, stored_tensors

_PREFIX = "base_model.model."
_LORA = re.compile(r"^(?P<module>.+)\.lora_(?P<half>A|B|embedding_A|embedding_B)(?:\.weight)?$")
PROBE_TOKENS = 16


def refuse_zero_adapter(variant: Variant, adapter: AdapterArtifact) -> str:
    """Return how many tensors the adapter has; raise InputError if its weights are all zero."""
    tensors = list(stored_tensors(adapter.weights))
    trained = [tensor for tensor in tensors if not _is_first_half(tensor.name)]
    if all(is_all_zero(tensor) for tensor in trained or tensors):
        raise InputError(
            f"Variant '{variant.name}': the adapter {variant.adapter} changes nothing, because "
            f"{'its lora_B weights are' if trained else 'it is'} all zero. Was it saved before training?"
        )
    return f"{len(tensors)} tensors"


def refuse_other_modules(variant: Variant, adapter: AdapterArtifact) -> str:
    """Return how many modules the adapter changes; raise InputError if the base lacks these modules or shapes."""
    model = skeleton(variant.model)
    modules = dict(model.named_modules())
    changed: set[str] = set()
    unknown: list[str] = []
    for name, info in adapter.tensors.items():
        match = _LORA.match(name.removeprefix(_PREFIX))
        if match is None:
            continue
        module = match["module"].replace(".base_layer", "")
        if module not in modules:
            unknown.append(module)
            continue
        changed.add(module)
        weight = getattr(modules[module], "weight", None)
        if weight is not None:
            _refuse_other_shape(variant, module, match["half"], info.shape, tuple(weight.shape))
    if unknown or not changed:
        what = f"'{unknown[0]}'" if unknown else "any LoRA layer at all"
        raise InputError(
            f"Variant '{variant.name}': the adapter {variant.adapter} was trained for {len(set(unknown))} modules that "
            f"{variant.model} does not have, first {what}. Use the base it was trained on."
        )
    return f"{len(changed)} modules"


def refuse_silent_adapter(variant: Variant, adapter: AdapterArtifact, pool: SharedPool) -> str:
    """Return how much the adapter changes the logits.

    Raises InputError if weights of the file are missing from the loaded model, or change nothing.
    """
    with pool.use(variant) as loaded:
        _refuse_absent_weights(variant, adapter, loaded)
        with_adapter = _probe(loaded)
    with pool.use(base_of(variant)) as loaded:
        without = _probe(loaded)
    moved = (with_adapter - without).abs().max().item()
    if not moved > 0:
        raise InputError(
            f"Variant '{variant.name}': enabling the adapter {variant.adapter} changes no logit. "
            "Its weights were not loaded or have no effect; check that it was saved after training."
        )
    return f"moves the logits by up to {moved:.3g}"


def base_of(variant: Variant) -> Variant:
    """Return the base of an adapter variant as its own variant."""
    return variant.model_copy(update={"name": "base", "kind": "base", "adapter": None})


def _is_first_half(name: str) -> bool:
    """PEFT initialises A at random and B to zero, so only B shows whether anything was learned."""
    match = _LORA.match(name)
    return match is not None and match["half"].endswith("A")


def _refuse_other_shape(
    variant: Variant, module: str, half: str, shape: tuple[int, ...], weight: tuple[int, ...]
) -> None:
    # A is [rank, in] and B [out, rank]; weights are [out, in], or [in, out] in layers that store them transposed.
    # Embeddings have the two swapped.
    sizes = set(weight)
    outer = shape[-1] if half in ("A", "embedding_A") else shape[0]
    if outer not in sizes:
        raise InputError(
            f"Variant '{variant.name}': the adapter {variant.adapter} does not fit {variant.model}: '{module}' is "
            f"{' × '.join(map(str, weight))} there, but the adapter was trained for size {outer}."
        )


@torch.inference_mode()
def _refuse_absent_weights(variant: Variant, adapter: AdapterArtifact, loaded: LoadedModel) -> None:
    active = next((m.active_adapters[0] for m in loaded.model.modules() if hasattr(m, "lora_A")), "none")
    parameters = {name.replace(f".{active}", "") for name, _ in loaded.model.named_parameters() if f".{active}" in name}
    absent: list[str] = []
    for tensor in stored_tensors(adapter.weights):
        name = tensor.name.removeprefix(_PREFIX)
        if _LORA.match(name) is not None and name not in parameters:
            absent.append(name)
    if absent:
        raise InputError(
            f"Variant '{variant.name}': {len(absent)} tensors of the adapter {variant.adapter} were silently not "
            f"loaded, first '{absent[0]}'. It was trained for other module names."
        )


@torch.inference_mode()
def _probe(loaded: LoadedModel) -> torch.Tensor:
    vocabulary = loaded.model.get_input_embeddings().weight.shape[0]
    ids = (torch.arange(PROBE_TOKENS, device=loaded.device) * 7919 + 17).remainder(vocabulary)[None]
    logits: torch.Tensor = loaded.model(input_ids=ids, use_cache=False).logits
    return logits.float().cpu()
