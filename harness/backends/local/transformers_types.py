"""Protocols for the parts of transformers' models that are used here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class TextConfig(Protocol):
    """The attributes that every language model has; others are read with ``getattr``."""

    num_hidden_layers: int
    num_attention_heads: int
    hidden_size: int
    vocab_size: int


class ModelConfig(Protocol):
    """A model's configuration, which may contain the language model's own."""

    _attn_implementation: str

    def get_text_config(self) -> TextConfig: ...
    def to_dict(self) -> dict[str, Any]: ...


class CausalLM(Protocol):
    """A causal language model. Its modules have many types and are recognised by their attributes."""

    config: ModelConfig
    generation_config: Any

    def __call__(self, *, input_ids: torch.Tensor, **options: Any) -> Any: ...
    def generate(self, input_ids: torch.Tensor, **options: Any) -> torch.Tensor: ...
    def get_input_embeddings(self) -> torch.nn.Embedding: ...
    def get_output_embeddings(self) -> Any: ...
    def get_memory_footprint(self) -> int: ...
    def set_attn_implementation(self, name: str) -> None: ...
    def _can_set_attn_implementation(self) -> bool: ...
    def modules(self) -> Iterator[Any]: ...
    def named_modules(self) -> Iterator[tuple[str, Any]]: ...
    def named_parameters(self, *, remove_duplicate: bool = True) -> Iterator[tuple[str, torch.nn.Parameter]]: ...
    def parameters(self) -> Iterator[torch.nn.Parameter]: ...
    def buffers(self) -> Iterator[torch.Tensor]: ...
