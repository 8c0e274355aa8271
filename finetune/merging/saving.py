"""Save a merged model, and verify that the files hold exactly its weights."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from harness.backends.local.loading import load_weights
from harness.errors import HarnessError, first_line
from harness.files import write_text_atomically
from harness.progress import quiet_loading
from harness.variants.artifacts import ModelArtifact
from harness.variants.model import Variant
from harness.variants.nf4 import nf4_config

DEFAULT_SHARD_BYTES = 1 << 30


def save_merged(
    model: Any, base: ModelArtifact, folder: Path, *, dtype: str, four_bits: bool, shard_bytes: int
) -> None:
    """Write weights and configuration. The configuration is the base's, but for what the merge changed in it."""
    from safetensors import SafetensorError

    try:
        with quiet_loading():
            model.save_pretrained(str(folder), max_shard_size=shard_bytes)
    except (OSError, SafetensorError) as error:  # SafetensorError on a full disk
        raise HarnessError(
            f"Cannot write to {folder} ({first_line(error, 300)}). Free some space and merge again."
        ) from error
    config = dict(base.config)
    config.pop("torch_dtype", None)
    config["dtype"] = dtype
    if not model.config.get_text_config().tie_word_embeddings:
        config["tie_word_embeddings"] = False
        if "text_config" in config:
            config["text_config"] = {**config["text_config"], "tie_word_embeddings": False}
    if four_bits:
        config["quantization_config"] = nf4_config(dtype).to_dict()
    write_text_atomically(folder / "config.json", json.dumps(config, indent=2, ensure_ascii=False) + "\n")
    generation = folder / "generation_config.json"
    generation.unlink(missing_ok=True)
    if (base.path / generation.name).is_file():
        shutil.copyfile(base.path / generation.name, generation)


def check_saved(model: Any, saved: Variant, device: str) -> None:
    """Raise HarnessError unless the files load as exactly the weights of ``model``, bit for bit."""
    # On the CPU the file is only mapped into memory; 4-bit weights are laid out by the device.
    loaded: Any = load_weights(saved, device if saved.quantization != "none" else "cpu")
    found = loaded.state_dict()
    for name, meant in model.state_dict().items():
        read = found.pop(name, None)
        if read is None or not _same_bits(read, meant):
            raise HarnessError(f"{saved.model}: '{name}' reads back differently. Check the disk and merge again.")
    if found:
        raise HarnessError(f"{saved.model} has '{next(iter(found))}', which the merge did not write.")


def _same_bits(one: Any, other: Any) -> bool:
    if not isinstance(one, torch.Tensor) or one.dtype != other.dtype or one.shape != other.shape:
        return bool(one == other)
    a, b = (tensor.detach().cpu().contiguous().view(-1).view(torch.uint8) for tensor in (one, other))
    return torch.equal(a, b)
