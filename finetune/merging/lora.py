"""What an adapter changes in each weight of its base, read from its files by PEFT's rules without loading a model.

An adapter that this module cannot reproduce exactly is rejected, not merged approximately.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.options import CHANGES_THE_BASE
from harness.errors import InputError
from harness.variants.artifacts import AdapterArtifact, ModelArtifact, check_adapter_folder

if TYPE_CHECKING:
    import torch

_PREFIX = "base_model.model."
_PIECES = re.compile(r"^(?P<module>.+)\.(?P<piece>lora_A\.weight|lora_B\.weight|lora_magnitude_vector(?:\.weight)?)$")
_UNSUPPORTED = {
    "trainable_token_indices": "single trained tokens",
    "target_parameters": "LoRA on bare parameters",
    "lora_bias": "a bias inside LoRA",
    "alora_invocation_tokens": "activated LoRA",
    "layer_replication": "replicated layers",
    "megatron_config": "Megatron layers",
    "arrow_config": "Arrow routing",
    "velora_config": "VeLoRA",
}


@dataclass(frozen=True)
class LoraChange:
    """ΔW = ``scaling`` · B · A on one weight (transposed for layers that store it so), with DoRA's magnitude if any."""

    a: torch.Tensor  # r × in, float32
    b: torch.Tensor  # out × r, float32
    scaling: float
    magnitude: torch.Tensor | None  # out, float32
    transposed: bool

    @property
    def rank(self) -> int:
        return int(self.a.shape[0])

    def apply(self, weight: torch.Tensor) -> torch.Tensor:
        """Return the weight (float32, as the layer stores it) with the change applied."""
        a, b = self.a.to(weight.device), self.b.to(weight.device)
        delta = (b @ a) * self.scaling
        changed = weight.T + delta if self.transposed else weight + delta
        if self.magnitude is not None:  # DoRA (arXiv 2402.09353): direction times a learned length per row
            length = changed.norm(dim=1, keepdim=True)
            changed = changed * (self.magnitude.to(weight.device).reshape(-1, 1) / length)
        return changed.T.contiguous() if self.transposed else changed


@dataclass(frozen=True)
class AdapterPlan:
    """The changes by base tensor name, and the tensors that the adapter replaces (modules_to_save, biases)."""

    config: dict[str, Any]
    changes: Mapping[str, LoraChange]
    replacements: Mapping[str, torch.Tensor]


def plan_adapter(folder: Path, base: ModelArtifact, transposed: frozenset[str] = frozenset()) -> AdapterPlan:
    """Return what the adapter changes in ``base``, whose ``transposed`` modules store their weight as in × out.

    Raises InputError for anything that does not fit or is not supported.
    """
    adapter = check_adapter_folder(folder)
    config = adapter.config
    _refuse_unsupported(adapter, base)
    pieces, whole = _read_pieces(adapter)
    changes = {
        f"{module}.weight": _change(module, found, config, base, folder, module in transposed)
        for module, found in pieces.items()
    }
    replacements = {}
    for name, tensor in whole.items():
        target = name.replace(".base_layer.", ".")
        _must_fit(folder, name, tuple(tensor.shape), base, target)
        replacements[target] = tensor
    both = sorted(set(changes) & set(replacements))
    if both:
        raise InputError(f"{folder} both adapts and replaces '{both[0]}', which this merge does not support.")
    if not changes and not replacements:
        raise InputError(f"{folder} contains no LoRA weights.")
    _refuse_tied(folder, {*changes, *replacements}, base)
    _all_targets_found(folder, config, changes)
    return AdapterPlan(config, changes, replacements)


def _refuse_unsupported(adapter: AdapterArtifact, base: ModelArtifact) -> None:
    config = adapter.config
    if str(config["peft_type"]).upper() != "LORA":
        raise InputError(f"{adapter.path} is a {config['peft_type']} adapter; only LoRA (and DoRA) can be merged here.")
    for key, what in _UNSUPPORTED.items():
        if config.get(key):
            raise InputError(f"{adapter.path} uses {what} ({key}), which this merge does not support.")
    start = str(config.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGES_THE_BASE):
        raise InputError(
            f"{adapter.path} was initialised with '{start}', which also changes the base: "
            "convert it with PEFT's path_initial_model_for_weight_conversion first."
        )
    if base.config.get("quantization_config"):
        raise InputError(f"{base.path} is quantised; merge into the unquantised base it was made from.")


def _read_pieces(adapter: AdapterArtifact) -> tuple[dict[str, dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Split the adapter's tensors into LoRA pieces by module, and tensors that replace the base's own."""
    import torch
    from safetensors import safe_open

    pieces: dict[str, dict[str, torch.Tensor]] = {}
    whole: dict[str, torch.Tensor] = {}
    with safe_open(str(adapter.weights), framework="pt") as file:
        for key in sorted(adapter.tensors):
            tensor = file.get_tensor(key)
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{adapter.weights}: tensor '{key}' contains NaN or infinity.")
            name = key.removeprefix(_PREFIX)
            match = _PIECES.match(name)
            if match:
                piece = match["piece"].removesuffix(".weight")
                pieces.setdefault(match["module"], {})[piece] = tensor.float()
            elif "lora_" in name:
                raise InputError(f"{adapter.weights}: '{key}' is a kind of LoRA weight that cannot be merged.")
            else:
                whole[name.replace(".modules_to_save.", ".")] = tensor
    return pieces, whole


def _change(
    module: str,
    found: dict[str, torch.Tensor],
    config: dict[str, Any],
    base: ModelArtifact,
    folder: Path,
    transposed: bool,
) -> LoraChange:
    if "lora_A" not in found or "lora_B" not in found:
        raise InputError(f"{folder}: '{module}' has only one of lora_A and lora_B.")
    a, b, magnitude = found["lora_A"], found["lora_B"], found.get("lora_magnitude_vector")
    if a.dim() != 2 or b.dim() != 2 or a.shape[0] != b.shape[1]:
        raise InputError(f"{folder}: lora_A {tuple(a.shape)} and lora_B {tuple(b.shape)} of '{module}' do not fit.")
    if bool(config.get("use_dora")) != (magnitude is not None):
        raise InputError(f"{folder}: use_dora is {config.get('use_dora')}, but the weights of '{module}' do not match.")
    rank = int(_by_pattern(config.get("rank_pattern"), module, config.get("r", a.shape[0])))
    if rank != a.shape[0]:
        raise InputError(f"{folder}: '{module}' has rank {rank} in the configuration but {a.shape[0]} in the weights.")
    alpha = float(_by_pattern(config.get("alpha_pattern"), module, config.get("lora_alpha", rank)))
    scaling = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    shape = (int(b.shape[0]), int(a.shape[1]))
    _must_fit(folder, module, shape[::-1] if transposed else shape, base, f"{module}.weight")
    return LoraChange(a, b, scaling, magnitude, transposed)


def _by_pattern(pattern: dict[str, Any] | None, module: str, default: Any) -> Any:
    """Apply PEFT's rule for rank_pattern and alpha_pattern: the first regex that matches the end of the name."""
    matching = (value for key, value in (pattern or {}).items() if re.match(rf"(.*\.)?({key})$", module))
    return next(matching, default)


def _must_fit(folder: Path, name: str, shape: tuple[int, ...], base: ModelArtifact, target: str) -> None:
    info = base.tensors.get(target)
    if info is None:
        raise InputError(
            f"{folder} changes '{name}', but {base.path} has no tensor '{target}': "
            "it was trained over a base with different module names."
        )
    if info.shape != shape:
        raise InputError(
            f"{folder} changes '{name}' of shape {shape}, but in {base.path} it has {info.shape}: "
            "it was trained over another base."
        )


def _refuse_tied(folder: Path, names: set[str], base: ModelArtifact) -> None:
    """Reject changes to tied embeddings: changing one changes the other, which is not what was trained."""
    if not base.config.get("tie_word_embeddings"):
        return
    for name in sorted(names):
        if name.endswith(("embed_tokens.weight", "lm_head.weight", "wte.weight")):
            raise InputError(
                f"{folder} changes '{name}', which this base ties to its other embedding: untie them first, "
                "or train without it."
            )


def _all_targets_found(folder: Path, config: dict[str, Any], changes: Mapping[str, LoraChange]) -> None:
    """Check that every target module has weights: a missing one was lost on saving."""
    targets = config.get("target_modules")
    if not isinstance(targets, list):
        return
    modules = [name.removesuffix(".weight") for name in changes]
    for target in targets:
        if not any(module == target or module.endswith(f".{target}") for module in modules):
            raise InputError(f"{folder} names '{target}' as a target, but has no weights for it.")
