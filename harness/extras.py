"""The optional dependencies: which extra a package belongs to, and the sentence for a command that lacks one."""

from __future__ import annotations

import importlib.util

from harness.errors import InputError

# By import name, as in pyproject.toml. An extra comes with those before it that it builds on.
PACKAGES = {
    "run": (
        "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "datasketch", "evaluate",
        "huggingface_hub", "pandas", "pyarrow", "pynvml", "safetensors", "tokenizers",
    ),
    "train": ("trl",),
    "meaning": ("sentence_transformers",),
}  # fmt: skip
# What a command cannot even start without; the rest is needed by some models, data or metrics only.
ESSENTIAL = {"run": ("torch", "transformers", "peft"), "train": ("torch", "transformers", "peft", "trl")}


def require(extra: str, command: str) -> None:
    """Raise InputError naming the extra if one of its essential packages is not installed."""
    if any(importlib.util.find_spec(package) is None for package in ESSENTIAL[extra]):
        raise InputError(f"{command} needs the extra '{extra}': {_install(extra)}.")


def missing_package(error: ModuleNotFoundError) -> InputError | None:
    """Return the sentence for a package that could not be imported; None if no extra would bring it."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in PACKAGES.items():
        if package in packages:
            return InputError(
                f"The package {package} is not installed. It comes with the extra '{extra}': {_install(extra)}."
            )
    return None


def _install(extra: str) -> str:
    return f"pip install 'medical-dialogue-harness[{extra}]'"
