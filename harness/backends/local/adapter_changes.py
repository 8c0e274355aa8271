"""What an adapter changes in its base, weight by weight, by PEFT's own arithmetic in float32.

The merge uses it, and so do the error figures of merges by other tools. PEFT knows every kind of LoRA layer, and
transformers knows which module a tensor of a checkpoint belongs to (GPT-2's have a prefix or none, Mixtral's experts
are fused in memory and apart on disk), so neither is repeated here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from harness.backends.local.loading import load_weights
from harness.errors import InputError, first_line
from harness.progress import quiet_loading
from harness.variants.artifacts import AdapterArtifact, check_adapter_folder
from harness.variants.model import Variant
from harness.variants.nf4 import linear_modules, rounded_to_nf4

_PREFIX = "base_model.model."
_NAME = "default"
# Their effect depends on the prompt or the layout of the model, so there are no weights that compute the same.
_NOT_A_CHANGE_OF_WEIGHTS = {
    "alora_invocation_tokens": "activated LoRA",
    "arrow_config": "Arrow routing",
    "layer_replication": "replicated layers",
    "megatron_config": "Megatron layers",
}


@dataclass(frozen=True)
class Change:
    """One parameter by its name in the loaded base: as trained over, as trained, and as the merged model holds it.

    ``before`` and ``target`` are float32; ``rounded`` has the dtype of the model.
    """

    name: str
    before: torch.Tensor
    target: torch.Tensor
    rounded: torch.Tensor


@dataclass
class AttachedAdapter:
    """A base with an adapter on it. ``merge`` turns ``model`` into the merged model."""

    model: Any
    largest_quantization_error: float | None
    _before: dict[str, torch.Tensor] = field(repr=False)
    _replaced: Mapping[str, torch.Tensor] = field(repr=False)

    @torch.no_grad()
    def merge(self) -> Iterator[Change]:
        """Merge one module after another in float32, round each once, and yield each parameter that may have changed.

        Raises InputError if PEFT cannot merge a layer, and for a weight that becomes NaN or infinite.
        """
        for name in _wrappers(self.model):
            module = self._unwrapped(name)
            for own, parameter in list(module.named_parameters()):
                yield from self._rounded(f"{name}.{own}", parameter)
        for name in sorted(set(self._replaced) & set(self._before)):  # biases and such, which no wrapper holds
            yield from self._rounded(name, self.model.get_parameter(name))
        _tie_again(self.model)
        del self.model.peft_config

    def _unwrapped(self, name: str) -> torch.nn.Module:
        """Merge the wrapper of that name in float32, put the module it wraps in its place, and return it."""
        parent, _, child = name.rpartition(".")
        wrapper: Any = self.model.get_submodule(name)
        for layer in wrapper.modules():
            inner = getattr(layer, "base_layer", None)
            if isinstance(inner, torch.nn.Module) and not hasattr(inner, "base_layer"):
                _copy_to_float32(inner)
        try:
            if hasattr(wrapper, "unload_and_optionally_merge_module"):
                module = wrapper.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
            else:
                wrapper.merge()
                module = wrapper.get_base_layer()
        except (RuntimeError, ValueError, NotImplementedError) as error:
            raise InputError(f"peft cannot merge the adapter's '{name}' ({first_line(error, 300)}).") from error
        setattr(self.model.get_submodule(parent), child, module)
        merged: torch.nn.Module = module
        return merged

    def _rounded(self, name: str, parameter: torch.nn.Parameter) -> Iterator[Change]:
        before = self._before.pop(name)
        target = self._replaced.get(name, parameter.detach()).to(before.device, torch.float32)
        rounded = target.to(before.dtype)
        if not bool(torch.isfinite(rounded).all()):
            raise InputError(f"Merging made '{name}' NaN or infinite; its values exceed the range of {before.dtype}.")
        module, _, own = name.rpartition(".")
        setattr(self.model.get_submodule(module), own, torch.nn.Parameter(rounded, requires_grad=False))
        yield Change(name, before.float(), target, rounded)


def attach(base: Variant, adapter: Path, device: str, *, model: Any = None) -> AttachedAdapter:
    """Load the base with the adapter on it; ``model`` has the base's weights, unquantised, if they are loaded already.

    A base of quantisation nf4 is loaded with its 4-bit weights dequantised, so that it computes what training saw and
    can be changed. Raises InputError for anything but LoRA, and for weights that are missing, left over, not finite or
    of another shape.
    """
    found = check_adapter_folder(adapter)
    _refuse_unsupported(found)
    whole = _whole_tensors(found)
    model = model or load_weights(unquantized(base), device)
    error = _dequantize(model) if base.quantization == "nf4" else None
    before = _kept(model, found, {name.replace(".base_layer.", ".") for name in whole})
    _attach(model, found, device)
    # The weight below a LoRA is what it was trained over, which peft saves beside LoRA on embeddings.
    replaced = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in whole.items()
        if not name.endswith(".base_layer.weight")
    }
    return AttachedAdapter(model, error, before, replaced)


def unquantized(base: Variant) -> Variant:
    """Return the base as it is saved."""
    return base.model_copy(update={"quantization": "none"})


@torch.no_grad()
def _dequantize(model: Any) -> float:
    """Round the weights that training held in 4 bits, in place; return the largest relative error."""
    largest = 0.0
    for name, transposed in linear_modules(model).items():
        parameter = model.get_submodule(name).weight
        values, error = rounded_to_nf4(name, parameter.data, transposed=transposed)
        parameter.data = values
        largest = max(largest, error)
    return largest


def _refuse_unsupported(adapter: AdapterArtifact) -> None:
    config = adapter.config
    if str(config["peft_type"]).upper() != "LORA":
        raise InputError(f"{adapter.path} is a {config['peft_type']} adapter; only LoRA (and DoRA) can be merged.")
    for key, what in _NOT_A_CHANGE_OF_WEIGHTS.items():
        if config.get(key):
            raise InputError(f"{adapter.path} uses {what} ({key}), which cannot be merged.")
    start = str(config.get("init_lora_weights", ""))
    if start.startswith("pissa_niter"):
        raise InputError(
            f"{adapter.path} was initialised by a randomised decomposition of its base ({start}), which every loading "
            "repeats differently: convert it with PEFT's path_initial_model_for_weight_conversion first."
        )


def _whole_tensors(adapter: AdapterArtifact) -> dict[str, torch.Tensor]:
    """Return the tensors that take the place of the base's own (modules_to_save, biases, embeddings below a LoRA)."""
    from safetensors import safe_open

    whole: dict[str, torch.Tensor] = {}
    with safe_open(str(adapter.weights), framework="pt") as file:
        for key in sorted(adapter.tensors):
            tensor = file.get_tensor(key)
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(f"{adapter.weights}: tensor '{key}' contains NaN or infinity.")
            if "lora_" not in key and "trainable_tokens_delta" not in key:
                whole[_file_key(key).replace(".modules_to_save.", ".")] = tensor
    return whole


def _kept(model: Any, adapter: AdapterArtifact, whole: Set[str]) -> dict[str, torch.Tensor]:
    """Return the base's parameters as they are before the adapter is attached.

    Attaching writes over those that the adapter's file holds whole and, for some ways of initialising LoRA, over those
    it adapts. These are copied; the others cost no memory.
    """
    harmless = {"true", "false", "gaussian", "orthogonal", "eva"}
    changes_all = str(adapter.config.get("init_lora_weights", True)).lower() not in harmless
    return {
        name: parameter.detach().clone() if changes_all or name in whole else parameter.detach()
        for name, parameter in model.named_parameters(remove_duplicate=False)
    }


def _attach(model: Any, adapter: AdapterArtifact, device: str) -> None:
    """Put the adapter on the model in float32; every tensor of its file must be used, and none may be missing."""
    from peft import PeftConfig, PeftModel
    from safetensors import SafetensorError

    path = str(adapter.path)
    try:
        with quiet_loading():
            config = PeftConfig.from_pretrained(path)
            config.inference_mode = True
            attached = PeftModel(model, config, _NAME)
            result = attached.load_adapter(path, _NAME, torch_device=device)
    except KeyError as error:  # peft looks up what modules_to_save and trainable_token_indices name
        raise InputError(_lacks(path, str(error.args[0]))) from error
    except (OSError, ValueError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        why = " ".join(str(error).split())[:300].rstrip(".")
        what = "was trained over another base" if "size mismatch" in why else "cannot be attached to its base by peft"
        raise InputError(f"{path} {what} ({why}).") from error
    keys = {_file_key(key) for key in adapter.tensors}
    held = {_file_key(name) for name, _ in attached.named_parameters() if f".{_NAME}" in name}
    missing = [_file_key(name) for name in result.missing_keys] + sorted(
        name for name in held if "lora_" not in name and name.replace(".modules_to_save.", ".") not in keys
    )
    if result.unexpected_keys:
        raise InputError(
            f"{path} changes '{_file_key(result.unexpected_keys[0])}', which its base does not have: "
            "it was trained over a base with different module names."
        )
    if missing:
        raise InputError(_lacks(path, missing[0]))


def _lacks(path: str, name: str) -> str:
    return f"{path} has no weights for '{_file_key(name)}', which its configuration names. Save it again."


def _file_key(name: str) -> str:
    """Return a parameter's name within the PEFT model as the adapter's file has it, without the constant prefix."""
    return name.removeprefix(_PREFIX).replace(f".{_NAME}", "")


def _wrappers(model: Any) -> list[str]:
    """Return the names of PEFT's wrappers that lie in no other."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    names: list[str] = []
    for name, module in model.named_modules():
        if isinstance(module, (BaseTunerLayer, AuxiliaryTrainingWrapper)) and not any(
            name.startswith(f"{outer}.") for outer in names[-1:]
        ):
            names.append(name)
    return names


def _copy_to_float32(module: torch.nn.Module) -> None:
    """Give the module float32 parameters of its own, which it shares with no tied module and no file."""
    for part in module.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            own = parameter.detach().to(torch.float32, copy=True)
            setattr(part, name, torch.nn.Parameter(own, requires_grad=False))


def _tie_again(model: Any) -> None:
    """Tie the embeddings that are equal still, and state in the configuration where they are no longer tied."""
    texts = model.config.get_text_config()
    output = model.get_output_embeddings()
    if not texts.tie_word_embeddings or output is None:
        return
    if torch.equal(output.weight, model.get_input_embeddings().weight):
        output.weight = model.get_input_embeddings().weight
    else:
        texts.tie_word_embeddings = model.config.tie_word_embeddings = False
