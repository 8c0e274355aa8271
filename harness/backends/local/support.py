"""Refuse models that cannot be loaded or measured here, before anything long begins, in one sentence each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.backends.local.loading import own_quantization, text_settings
from harness.errors import InputError, first_line
from harness.files import read_json
from harness.variants.model import Variant


def refuse_unsupported_model(variant: Variant, device: str) -> None:
    """Raise InputError naming what the model is or needs, if it cannot be measured on ``device``."""
    who = f"Variant '{variant.name}': {variant.model}"
    settings = text_settings(variant.model)
    if getattr(settings, "num_attention_heads", None) is None:
        raise InputError(
            f"{who} is a model of type '{settings.model_type}', which has no attention. Only models with attention can "
            "be measured."
        )
    own = own_quantization(variant.model)
    if own is None:
        return
    if variant.quantization not in ("none", own):
        raise InputError(
            f"{who} is already quantised ({own}), so it cannot be loaded with 'quantization: {variant.quantization}'. "
            "Remove that key, or give the unquantised model."
        )
    why = _why_not_loadable(variant.model, device)
    if why is not None:
        raise InputError(f"{who} is quantised ({own}) and cannot be loaded here: {why}.")


def _why_not_loadable(model: str, device: str) -> str | None:
    """Return what transformers says is missing for a quantised model, which names the package; None if nothing is."""
    from transformers.quantizers.auto import AutoHfQuantizer

    quantizers: Any = AutoHfQuantizer
    stated = read_json(Path(model) / "config.json")["quantization_config"]
    try:
        quantizers.from_config(stated, pre_quantized=True).validate_environment(device_map={"": device})
    except (ImportError, ValueError, RuntimeError, OSError) as error:
        return first_line(error, 300)
    return None
