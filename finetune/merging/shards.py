"""Weights read tensor by tensor and saved shard by shard, so that memory holds one shard and not a whole model."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from harness.errors import HarnessError, InputError
from harness.variants.artifacts import INDEX_NAME, ModelArtifact, safetensors_header

if TYPE_CHECKING:
    import torch

DEFAULT_SHARD_BYTES = 1 << 30


def stream_tensors(model: ModelArtifact, device: str = "cpu") -> Iterator[tuple[str, torch.Tensor]]:
    """Yield every tensor of a model on ``device``, one file open at a time; raise InputError for NaN or infinity."""
    import torch
    from safetensors import safe_open

    for path in model.files:
        with safe_open(str(path), framework="pt") as file:
            for name in sorted(name for name, place in model.file_of.items() if place == path):
                tensor = file.get_tensor(name).to(device)
                if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                    raise InputError(f"{path}: tensor '{name}' contains NaN or infinity.")
                yield name, tensor


class ShardWriter:
    """Collects tensors, saves a shard when it is full, and reads each back to verify it."""

    def __init__(self, folder: Path, shard_bytes: int = DEFAULT_SHARD_BYTES) -> None:
        self._folder = folder
        self._shard_bytes = shard_bytes
        self._pending: dict[str, torch.Tensor] = {}
        self._pending_bytes = 0
        self._shards: list[tuple[Path, tuple[str, ...]]] = []
        self._total_bytes = 0

    def add(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Add tensors (to the same shard) and save the shard if it is full."""
        for name, tensor in tensors.items():
            # safetensors does not save tensors that share memory, as 4-bit code books do.
            own = tensor.detach().clone() if tensor.device.type == "cpu" else tensor.detach().to("cpu")
            self._pending[name] = own.contiguous()
            self._pending_bytes += tensor.numel() * tensor.element_size()
        if self._pending_bytes >= self._shard_bytes:
            self._save_shard()

    def finish(self) -> tuple[Path, ...]:
        """Save the last shard, name the files as transformers does, write the index; return the weight files."""
        if self._pending:
            self._save_shard()
        count = len(self._shards)
        names = ["model.safetensors"]
        if count != 1:
            names = [f"model-{n:05d}-of-{count:05d}.safetensors" for n in range(1, count + 1)]
        weight_map: dict[str, str] = {}
        for name, (path, tensors) in zip(names, self._shards, strict=True):
            path.rename(self._folder / name)
            weight_map.update(dict.fromkeys(tensors, name))
        if count > 1:
            index = {"metadata": {"total_size": self._total_bytes}, "weight_map": dict(sorted(weight_map.items()))}
            (self._folder / INDEX_NAME).write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        return tuple(self._folder / name for name in names)

    def _save_shard(self) -> None:
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        path = self._folder / f"shard-{len(self._shards):05d}.safetensors"
        try:
            save_file(self._pending, str(path), metadata={"format": "pt"})
        except (OSError, SafetensorError) as error:  # SafetensorError on a full disk
            raise HarnessError(f"Cannot write {path} ({error}). Free some space and merge again.") from error
        _check_saved(path, self._pending)
        self._shards.append((path, tuple(self._pending)))
        self._total_bytes += self._pending_bytes
        self._pending, self._pending_bytes = {}, 0


def _check_saved(path: Path, meant: Mapping[str, torch.Tensor]) -> None:
    """Raise HarnessError unless the file holds exactly these tensors, bit for bit."""
    import torch
    from safetensors import safe_open

    if set(safetensors_header(path)) != set(meant):
        raise HarnessError(f"{path} does not contain the tensors written to it. Check the disk and merge again.")
    with safe_open(str(path), framework="pt") as file:
        for name, tensor in meant.items():
            saved = file.get_tensor(name)
            same = saved.dtype == tensor.dtype and saved.shape == tensor.shape
            if not same or not torch.equal(saved.view(-1).view(torch.uint8), tensor.view(-1).view(torch.uint8)):
                raise HarnessError(f"{path}: '{name}' reads back differently. Check the disk and merge again.")
