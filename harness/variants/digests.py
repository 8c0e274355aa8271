"""Digests of weights: which model was measured, and is it the one the adapter was trained over?

SHA-256 over the bytes of the safetensors files, streamed, so that a 7 B model needs no more memory than a small one.
No torch here.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from harness.errors import InputError

_BLOCK = 8 * 1024 * 1024
# Keys of adapter_config.json that say where a file came from, not what the adapter computes.
_NOT_THE_FUNCTION = {
    "base_model_name_or_path",
    "revision",
    "inference_mode",
    "peft_version",
    "auto_mapping",
    "task_type",
}


def digest_bytes(data: bytes) -> str:
    """Return the SHA-256 (hex) of some bytes."""
    return hashlib.sha256(data).hexdigest()


def digest_value(value: Any) -> str:
    """Return the SHA-256 (hex) of a JSON value, independent of the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), default=str)
    return digest_bytes(text.encode("ascii"))


def digest_file(path: Path | str) -> str:
    """Return the SHA-256 (hex) of a file's bytes; raise InputError when it cannot be read."""
    state = hashlib.sha256()
    try:
        with Path(path).open("rb") as file:
            while block := file.read(_BLOCK):
                state.update(block)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    return state.hexdigest()


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
    config_path = root / "adapter_config.json"
    try:
        config = json.loads(config_path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"Cannot read {config_path}: {error.strerror}.") from error
    except ValueError as error:
        raise InputError(f"{config_path} is not valid JSON ({error}).") from error
    kept = {key: value for key, value in config.items() if key not in _NOT_THE_FUNCTION}
    if isinstance(kept.get("target_modules"), list):
        kept["target_modules"] = sorted(kept["target_modules"])  # peft writes a set
    return digest_value([digest_model_folder(root), kept])
