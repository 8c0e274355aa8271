"""Digests of weights: which model was measured, and is it the one the adapter was trained over?

SHA-256 over the bytes of the safetensors files. No torch here.
"""

from __future__ import annotations

from pathlib import Path

from harness.errors import InputError
from harness.files import digest_file, digest_value, read_json

# Keys of adapter_config.json that say where a file came from, not what the adapter computes.
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

    The configuration stays outside: libraries rewrite it without changing the function. Raises InputError for a
    folder without safetensors.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        raise InputError(f"{folder} holds no *.safetensors file, so it has no weights to digest.")
    return digest_value([[file.name, digest_file(file)] for file in files])


def digest_adapter_folder(folder: Path | str) -> str:
    """Return one digest over an adapter: its weights, and of ``adapter_config.json`` what changes its function."""
    root = Path(folder)
    config = read_json(root / "adapter_config.json")
    kept = {key: value for key, value in config.items() if key not in _NOT_THE_FUNCTION}
    if isinstance(kept.get("target_modules"), list):
        kept["target_modules"] = sorted(kept["target_modules"])  # peft writes a set
    return digest_value([digest_model_folder(root), kept])
