"""How much GPU memory a training needs, computed tensor by tensor before anything is loaded.

The estimate is torch's peak allocation (``max_memory_allocated``) for a Llama-like decoder trained with LoRA by trl's
SFTTrainer in bf16:

- *weights*: 4-bit ones with their scales (a byte per block of 64, these in blocks of 256), the rest in bf16;
- *adapter*: LoRA's weights and gradients in float32, the bf16 copies that autocast makes, and the optimizer's state;
- *activations*: with gradient checkpointing the input of every layer and one recomputed layer, otherwise everything
  that every layer saves for its backward pass;
- *head*: the output layer is computed in tiles (trl never holds all logits), in bf16, with its gradient in float32.

The peak is either in the head or in the MLP of a layer's backward pass. Pure arithmetic: no torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.errors import InputError

MIB = 2**20
_BF16, _FP32 = 2, 4
# trl.kernels.chunked_logprob: tokens per tile; trl.trainer.utils: vocabulary per tile.
_HEAD_TOKENS, _HEAD_VOCABULARY = 4096, 32768
# bitsandbytes pages only states of at least this many elements; smaller ones stay in the allocator.
_PAGED_FROM = 100_000
_STATE_BYTES = {"adamw_8bit": 2, "adamw_bnb_8bit": 2, "paged_adamw_8bit": 2, "lion_32bit": 4, "sgd": 0, "adafactor": 0}


@dataclass(frozen=True)
class Architecture:
    """The parts of a model's configuration that determine its activations."""

    hidden: int
    intermediate: int
    layers: int
    heads: int
    kv_heads: int
    head_size: int
    vocabulary: int

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Architecture:
        """Read a config.json; raise InputError for a model that is not Llama-like."""
        try:
            hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
            return cls(
                hidden=hidden,
                intermediate=int(config["intermediate_size"]),
                layers=int(config["num_hidden_layers"]),
                heads=heads,
                kv_heads=int(config.get("num_key_value_heads") or heads),
                head_size=int(config.get("head_dim") or hidden // heads),
                vocabulary=int(config["vocab_size"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"Memory cannot be estimated for this kind of model: its config lacks {error}.") from error


@dataclass(frozen=True)
class LoraModule:
    """A layer with LoRA and its widths."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Parameters:
    """Counts of the model's parameters.

    ``beside_lora``: what is trained in addition to ``rank`` for every module of ``lora``, e.g. whole layers, biases,
    DoRA's magnitudes or other ranks of single modules (negative if these are lower).
    """

    total: int
    quantized: int  # in 4 bit
    lora: Sequence[LoraModule]
    rank: int
    beside_lora: int = 0

    @property
    def trainable(self) -> int:
        return sum(self.rank * (module.inputs + module.outputs) for module in self.lora) + self.beside_lora


@dataclass(frozen=True)
class Workload:
    """One training step. ``tokens`` is the length of a batch's longest sequence, to which the others are padded."""

    batch: int
    tokens: int
    dropout: bool
    checkpointing: bool
    optimizer: str = "adamw_torch"
    learned_tokens: int | None = None  # in the whole batch; None: every token


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak, by purpose. ``paged`` is outside the allocator and not part of the peak."""

    weights: int
    adapter: int
    optimizer: int
    kept_activations: int
    working: int
    paged: int

    @property
    def peak(self) -> int:
        return self.weights + self.adapter + self.optimizer + self.kept_activations + self.working

    def mib(self) -> dict[str, float]:
        """Return every part in MiB, rounded."""
        parts = ("weights", "adapter", "optimizer", "kept_activations", "working", "paged", "peak")
        return {part: round(getattr(self, part) / MIB, 1) for part in parts}


def estimate_memory(architecture: Architecture, parameters: Parameters, workload: Workload) -> MemoryEstimate:
    """Return the peak memory of training."""
    tokens = workload.batch * workload.tokens
    state, paged = _optimizer_bytes(parameters, workload.optimizer)
    saved = _saved_by_layer(architecture, parameters, workload)
    layer_input = architecture.hidden * _BF16
    largest = max((module.inputs * module.outputs for module in parameters.lora), default=0)
    largest = max(largest, architecture.hidden * architecture.intermediate)
    dequantised = largest * _BF16 if parameters.quantized else 0
    if workload.checkpointing:
        kept = architecture.layers * layer_input * tokens
        backward = (saved + _in_flight(architecture)) * tokens + dequantised
    else:
        kept = architecture.layers * saved * tokens
        backward = _in_flight(architecture) * tokens + dequantised
    return MemoryEstimate(
        weights=weight_bytes(parameters),
        # float32 weights and gradients, and bf16 copies that autocast keeps through the forward pass
        adapter=parameters.trainable * (_FP32 + _FP32 + _BF16),
        optimizer=state,
        kept_activations=kept + _around_the_layers(architecture, workload),
        working=max(backward, _head_bytes(architecture, workload)),
        paged=paged,
    )


def weight_bytes(parameters: Parameters) -> int:
    """Return the bytes of the frozen model: nf4 with double quantisation, and bf16 for the rest."""
    four_bit = parameters.quantized / 2 + parameters.quantized / 64 + parameters.quantized / (64 * 256) * _FP32
    return math.ceil(four_bit) + (parameters.total - parameters.quantized) * _BF16


def _optimizer_bytes(parameters: Parameters, optimizer: str) -> tuple[int, int]:
    """Return the optimizer's bytes inside and outside the allocator."""
    each = _STATE_BYTES.get(optimizer, 8)
    inside, outside = parameters.beside_lora * each, 0
    for module in parameters.lora:
        for width in (module.inputs, module.outputs):
            count = parameters.rank * width
            if optimizer.startswith("paged_") and count >= _PAGED_FROM:
                outside += count * each
            else:
                inside += count * each
    return inside, outside


def _saved_by_layer(architecture: Architecture, parameters: Parameters, workload: Workload) -> int:
    """Return the bytes per token that one layer saves for its backward pass.

    Both norms keep their input in float32; attention keeps queries, keys, values (as many heads as the queries have)
    and its output; the MLP keeps gate, activated gate and up. LoRA keeps its input: with dropout one per
    layer with its mask, otherwise one shared by layers with the same input.
    """
    attention = architecture.heads * architecture.head_size
    norms = 2 * architecture.hidden * _FP32
    saved = norms + 4 * attention * _BF16 + 3 * architecture.intermediate * _BF16
    names = {module.name.rpartition(".")[2]: module for module in parameters.lora}
    if workload.dropout:
        saved += sum(module.inputs * (_BF16 + 1) for module in names.values())
    else:
        first = next(iter(parameters.lora), None)
        hidden = first.inputs if first and not {"o_proj", "down_proj"} >= set(names) else 0
        shared = [bool({"q_proj", "k_proj", "v_proj"} & set(names)), bool({"gate_proj", "up_proj"} & set(names))]
        saved += (hidden and architecture.hidden) * sum(shared) * _BF16
        if "down_proj" in names:
            saved += architecture.intermediate * _BF16
    return saved + len(names) * parameters.rank * _BF16


def _in_flight(architecture: Architecture) -> int:
    """Return the bytes per token of the MLP's gradients: three of its width, two of the layer's."""
    return 3 * architecture.intermediate * _BF16 + 2 * architecture.hidden * _BF16


def _around_the_layers(architecture: Architecture, workload: Workload) -> int:
    """Return the bytes outside the layers: embeddings, rotations, masks and token ids."""
    tokens = workload.batch * workload.tokens
    rotations = 2 * workload.tokens * architecture.head_size * _BF16
    mask = workload.batch * workload.tokens * workload.tokens * _BF16
    return tokens * architecture.hidden * _BF16 + rotations + mask + tokens * 8 * 4


def _head_bytes(architecture: Architecture, workload: Workload) -> int:
    """Return the peak bytes of the output layer's backward pass."""
    tokens = workload.batch * workload.tokens
    learned = workload.learned_tokens or tokens
    tile = min(learned, _HEAD_TOKENS) * _HEAD_VOCABULARY * _BF16
    final_norm = tokens * architecture.hidden * (_FP32 + _BF16)
    gradients = learned * architecture.hidden * (_BF16 + _FP32 + _BF16) + tokens * architecture.hidden * _BF16
    return tile + final_norm + gradients
