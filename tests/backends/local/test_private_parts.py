"""The parts of transformers and peft that the local backend uses and that neither promises to keep.

When an upgrade removes one, the test that fails has its name. Then change what uses it, or lower the upper bound in
pyproject.toml.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from typing import Any

import pytest

# Name and, after the colon, the attributes or parameters that are used of it.
TRANSFORMERS = (
    "transformers.cache_utils.Cache",
    "transformers.cache_utils.CacheLayerMixin: lazy_initialization update get_mask_sizes get_seq_length",
    "transformers.integrations.sdpa_attention.sdpa_attention_forward: module query key value attention_mask scaling",
    "transformers.modeling_utils.ALL_ATTENTION_FUNCTIONS: register",
    "transformers.modeling_utils.PreTrainedModel: set_attn_implementation get_output_embeddings"
    " _can_set_attn_implementation",
    "transformers.masking_utils.ALL_MASK_ATTENTION_FUNCTIONS: register",
    "transformers.cache_utils.DynamicLayer",
    "transformers.cache_utils.DynamicSlidingWindowLayer",
    "transformers.GenerationMixin: generate",
    "transformers.utils.chat_template_utils._compile_jinja_template",  # see harness/dialogues/template_limits.py
)
MODELS = (  # what is replaced on CUDA by faster layers, as Llama names it; other models follow
    "transformers.models.llama.modeling_llama.apply_rotary_pos_emb: q k cos sin",
    "transformers.models.llama.modeling_llama.LlamaRMSNorm",
    "transformers.models.llama.modeling_llama.LlamaMLP",
)
PEFT = (
    "peft.PeftModel.from_pretrained: autocast_adapter_dtype is_trainable",
    "peft.tuners.lora.layer.Linear: get_delta_weight merged disable_adapters active_adapters",
    "peft.tuners.lora.bnb.Linear4bit: merge",
)
# What an instance has that its class does not declare.
LORA_LAYER = ("lora_A", "lora_B", "lora_variant", "base_layer", "scaling", "active_adapters")


def find(name: str) -> Any:
    """Return what a dotted name names; AssertionError says where it ends."""
    parts = name.split(".")
    for split in range(len(parts), 0, -1):
        try:
            found: Any = import_module(".".join(parts[:split]))
        except ImportError:
            continue
        for place, part in enumerate(parts[split:], split + 1):
            assert hasattr(found, part), f"{'.'.join(parts[:place])} is gone; the local backend uses it"
            found = getattr(found, part)
        return found
    raise AssertionError(f"{name} is gone; the local backend uses it")


@pytest.mark.parametrize("part", [*TRANSFORMERS, *MODELS, *PEFT])
def test_part_is_still_there(part: str) -> None:
    name, _, used = part.partition(":")
    found = find(name)
    takes = set(inspect.signature(found).parameters) if inspect.isfunction(found) or inspect.ismethod(found) else set()
    for attribute in used.split():
        assert attribute in takes or hasattr(found, attribute), f"{name} has no {attribute}; the local backend uses it"


@pytest.mark.parametrize("attribute", LORA_LAYER)
def test_lora_layer_still_has(attribute: str) -> None:
    import torch
    from peft import LoraConfig
    from peft.tuners.lora.layer import Linear

    layer: Any = Linear(torch.nn.Linear(4, 4), "default", config=LoraConfig(r=2), r=2, lora_alpha=2)
    assert hasattr(layer, attribute), f"peft's LoRA layer has no {attribute}; the local backend uses it"


def test_llama_layers_still_have_what_faster_ones_are_made_from() -> None:
    from transformers.models.llama import LlamaConfig
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    config = LlamaConfig(hidden_size=8, intermediate_size=16, num_attention_heads=2)
    for module, attributes in (
        (LlamaRMSNorm(8), ("variance_epsilon", "weight")),
        (LlamaMLP(config), ("gate_proj", "up_proj", "down_proj", "act_fn")),
        (config, ("_attn_implementation",)),
    ):
        for attribute in attributes:
            what = f"transformers' {type(module).__name__}"
            assert hasattr(module, attribute), f"{what} has no {attribute}; the local backend uses it"
