"""Digests of weights: SHA-256 over safetensors files, to identify the model that was measured or trained over.

No torch here.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.files import digest_file, digest_value, read_json

# Keys of adapter_config.json that record where a file came from and do not affect what the adapter computes.
_NOT_THE_FUNCTION = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "auto_mapping",
    "task_type",
}


def digest_model_folder(folder: Path | str) -> str:
    """Return one digest over a model folder's weights (its ``*.safetensors``, by name and content).

    The configuration is excluded: libraries rewrite it without changing the model. Raises InputError for a folder
    without safetensors.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} has no *.safetensors file to digest.")
    return digest_value([[file.name, digest_file(file)] for file in files])


def digest_adapter_folder(folder: Path | str) -> str:
    """Return one digest over an adapter's weights and the keys of its configuration that affect its output."""
    root = Path(folder)
    config = read_json(root / "adapter_config.json")
    kept = {key: value for key, value in config.items() if key not in _NOT_THE_FUNCTION}
    if isinstance(kept.get("target_modules"), list):
        kept["target_modules"] = sorted(kept["target_modules"])  # peft writes a set
    return digest_value([digest_model_folder(root), kept])
