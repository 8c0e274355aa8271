"""Check that an adapter matches its base, was loaded completely, and changes the model's output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.backends.local.loading import ADAPTER_NAME, skeleton
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.backends.local.sharing import probe
from harness.backends.local.transformers_types import CausalLM
from harness.errors import InputError
from harness.variants.artifacts import AdapterArtifact
from harness.variants.model import Variant
from harness.variants.reading import read_weights

_PREFIX = "base_model.model."
_IN_MEMORY = {ADAPTER_NAME, "base_layer", "modules_to_save", "original_module", "token_adapter", "weight"}
_LORA = re.compile(r"^(?P<module>.+)\.lora_(?P<half>A|B|embedding_A|embedding_B)(?:\.weight)?$")


def refuse_zero_adapter(variant: Variant, adapter: AdapterArtifact) -> str:
    """Return how many tensors the adapter has; raise InputError if its weights are all zero."""
    tensors = read_weights((adapter.weights,))[adapter.weights]
    trained = [tensor for tensor in tensors if not _is_first_half(tensor.name)]
    if all(tensor.zero for tensor in trained or tensors):
        raise InputError(
            f"Variant '{variant.name}': the adapter {variant.adapter} changes nothing, because "
            f"{'its lora_B weights are' if trained else 'it is'} all zero. Was it saved before training?"
        )
    return f"{len(tensors)} tensors"


def refuse_other_modules(variant: Variant, adapter: AdapterArtifact) -> str:
    """Return how many modules the adapter changes; raise InputError if the base lacks these modules or shapes."""
    model = _skeleton(variant, adapter)
    modules = dict(model.named_modules())
    embeddings = [id(model.get_input_embeddings()), id(model.get_output_embeddings())]
    changed: set[str] = set()
    for name, info in adapter.tensors.items():
        match = _LORA.match(name.removeprefix(_PREFIX))
        module, half = (
            (match["module"], match["half"]) if match else (name.removeprefix(_PREFIX).rpartition(".")[0], "")
        )
        module = module.replace(".base_layer", "").replace(".modules_to_save", "")
        if match is not None:
            _refuse_other_name(variant, name, module, modules)
            changed.add(module)
        weight = getattr(modules.get(module), "weight", None)
        if weight is not None and (match is not None or name.endswith(".weight")):
            is_embedding = id(modules[module]) in embeddings
            _refuse_other_shape(variant, module, half, info.shape, tuple(weight.shape), is_embedding=is_embedding)
    if not changed:
        raise InputError(f"Variant '{variant.name}': the adapter {variant.adapter} has no LoRA layer.")
    return f"{len(changed)} modules"


def refuse_silent_adapter(variant: Variant, adapter: AdapterArtifact, pool: SharedPool) -> str:
    """Return how much the adapter changes the logits.

    Raises InputError if weights of the file are missing from the loaded model, or change nothing.
    """
    with pool.use(variant) as loaded:
        _refuse_absent_weights(variant, adapter, loaded)
        with_adapter = probe(loaded.model).float().cpu()
    with pool.use(base_of(variant)) as loaded:
        without = probe(loaded.model).float().cpu()
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


def _skeleton(variant: Variant, adapter: AdapterArtifact) -> CausalLM:
    """Return the base's modules, with its layers repeated if the adapter repeats them."""
    model = skeleton(variant.model)
    repeated = adapter.config.get("layer_replication")
    if repeated:
        from peft.tuners.tuners_utils import replicate_layers

        replicate: Any = replicate_layers
        replicate(model, repeated)
    return model


def _refuse_other_name(variant: Variant, name: str, module: str, modules: Mapping[str, Any]) -> None:
    """PEFT ignores tensors whose names do not begin with its own prefix."""
    if module in modules and name.startswith(_PREFIX):
        return
    parts = module.split(".")
    known = next((rest for start in range(len(parts)) if (rest := ".".join(parts[start:])) in modules), None)
    if known is not None:
        prefix = name[: name.index(known)]
        raise InputError(
            f"Variant '{variant.name}': the tensors of the adapter {variant.adapter} are named with "
            f"{f'the prefix {prefix!r}' if prefix else 'no prefix'} where PEFT reads '{_PREFIX}', first '{name}'. "
            "Save the adapter with PEFT's save_pretrained."
        )
    raise InputError(
        f"Variant '{variant.name}': the adapter {variant.adapter} was trained for modules that {variant.model} does "
        f"not have, first '{module}'. Use the base it was trained on."
    )


def _refuse_other_shape(
    variant: Variant,
    module: str,
    half: str,
    shape: tuple[int, ...],
    weight: tuple[int, ...],
    *,
    is_embedding: bool,
) -> None:
    # A is [rank, in] and B [out, rank]; weights are [out, in], or [in, out] in layers that store them transposed.
    # Embeddings have the two swapped. Other tensors replace the weight.
    who = f"Variant '{variant.name}': the adapter {variant.adapter}"
    outer = shape[-1] if half in ("A", "embedding_A") else shape[0]
    if outer in weight and (half or shape == weight):
        return
    if is_embedding and outer != weight[1]:
        raise InputError(
            f"{who} was trained with another number of tokens: adapter has {outer:,} embeddings, base {weight[0]:,}. "
            "Merge it into a base with that many, and measure the merged model."
        )
    raise InputError(
        f"{who} does not fit {variant.model}: '{module}' is {' × '.join(map(str, weight))} there, but the adapter was "
        f"trained for {f'size {outer}' if half else ' × '.join(map(str, shape))}."
    )


def _refuse_absent_weights(variant: Variant, adapter: AdapterArtifact, loaded: LoadedModel) -> None:
    """PEFT does not load tensors that its own configuration does not ask for, with a warning at most."""
    # Not state_dict(), at which bitsandbytes changes 4-bit weights that it has repacked for the CPU.
    present = {_bare_name(name) for name, _ in loaded.model.named_parameters(remove_duplicate=False)}
    absent = [name for name in adapter.tensors if _bare_name(name.removeprefix(_PREFIX)) not in present]
    if absent:
        raise InputError(
            f"Variant '{variant.name}': {len(absent)} tensors of the adapter {variant.adapter} were silently not "
            f"loaded, first '{absent[0].removeprefix(_PREFIX)}'. Its adapter_config.json does not name their modules."
        )


def _bare_name(name: str) -> str:
    """Return a tensor's name without the parts that PEFT adds in memory and leaves out of files."""
    return ".".join(part for part in name.split(".") if part not in _IN_MEMORY)
