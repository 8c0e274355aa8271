"""Load a variant's folders into memory: safetensors only, and no network access for local folders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.backends.local.device import free_bytes, is_out_of_memory, places, torch_dtype
from harness.backends.local.overlay import Bare, Overlay
from harness.backends.local.rope import extension
from harness.backends.local.transformers_types import CausalLM
from harness.dialogues.tokens import Tokenizer
from harness.errors import HarnessError, InputError, first_line
from harness.files import read_json
from harness.progress import quiet_loading
from harness.variants.artifacts import resolve_model
from harness.variants.model import Variant
from harness.variants.nf4 import nf4_config

if TYPE_CHECKING:
    import torch

ADAPTER_NAME = "default"  # PEFT's, for the only adapter of a model
# What configurations call the context length, the usual name first (MPT and BLOOM have others).
CONTEXT_NAMES = ("max_position_embeddings", "max_seq_len", "max_sequence_length", "n_positions", "n_ctx", "seq_length")


def load_weights(variant: Variant, device: str) -> CausalLM:
    """Return the variant's base (or merged) model on ``device`` in eval mode, without any adapter.

    A folder that declares its own quantisation (such as a 4-bit merge) is loaded accordingly. On several GPUs,
    accelerate gives each an equal share of the layers. Raises InputError if the files cannot be loaded, and MemoryError
    if the GPUs together are too small: nothing is left to the CPU or the disk.
    """
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": torch_dtype(variant.dtype), "use_safetensors": True, "local_files_only": True}
    path = str(resolve_model(variant.model))
    quantization = None if own_quantization(path) else _quantization(variant)
    if quantization is not None:
        options["quantization_config"] = quantization
    # Quantised weights are placed while loading; on the CPU, plain loading maps the file and is fastest.
    spread = len(places(device)) > 1
    if spread:
        room = {index: free_bytes(place) for index, place in enumerate(places(device))}
        options |= {"device_map": "auto", "max_memory": room}
    elif quantization is not None or device.startswith("cuda"):
        options["device_map"] = {"": device}
    with quiet_loading(), _as_input_error(variant, "model", variant.model), _all_on_gpus(spread):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            path, output_loading_info=True, trust_remote_code=False, **options
        )
    if spread and any(parameter.is_meta for parameter in loaded[0].parameters()):  # it was left to the disk
        raise MemoryError(f"{path} does not fit on {', '.join(places(device))}")
    _refuse_incomplete(variant, loaded[1])
    model: CausalLM = loaded[0].eval().requires_grad_(False)
    return model


def skeleton(model: str) -> CausalLM:
    """Return the model's modules without weights (on torch's meta device), to look up names and shapes."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    with quiet_loading(), torch.device("meta"), readable(model, "no model that transformers can build"):
        config = AutoConfig.from_pretrained(resolve_model(model), local_files_only=True, trust_remote_code=False)
        auto: Any = AutoModelForCausalLM
        made: CausalLM = auto.from_config(config, trust_remote_code=False)
    return made


def text_settings(path: str) -> Any:
    """Return the configuration of a model's language part; raise InputError if it cannot be read."""
    from transformers import AutoConfig

    with readable(path, "no readable config"):
        folder = resolve_model(path)
        return AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False).get_text_config()


def context_length(path: str) -> int:
    """Return a model's context length (a very large number if it states none), without loading it."""
    text = text_settings(path)
    stated = [getattr(text, name, None) for name in CONTEXT_NAMES]
    return int(next((one for one in stated if isinstance(one, int) and one > 0), 2**31) * extension(text))


def load_tokenizer(path: str) -> Tokenizer:
    """Return the tokenizer saved with a model; raise InputError if there is none."""
    from transformers import AutoTokenizer

    with readable(path, "no loadable tokenizer"):
        found: Any = AutoTokenizer.from_pretrained(resolve_model(path), local_files_only=True, trust_remote_code=False)
        found("a", verbose=False)  # settings of the wrong kind fail only when they are used
    tokenizer: Tokenizer = found
    return tokenizer


@contextlib.contextmanager
def readable(path: str, lacks: str) -> Iterator[None]:
    """Raise InputError, which says what a model's folder ``lacks``, for whatever a library raises on its files.

    The files are someone else's, and libraries raise anything on damaged ones, also plain ``Exception``.
    """
    try:
        yield
    except (HarnessError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # a panic in a library written in Rust is no Exception
        raise InputError(f"{path} has {lacks}: {first_line(error, 300)}.") from error


def attach_adapter(model: CausalLM, variant: Variant) -> Overlay:
    """Attach a LoRA adapter to ``model``, which has no adapter switched on; return it, switched off.

    The adapter's weights are cast to the base's compute dtype, as in serving: next to bf16 activations the rounding of
    A and B is negligible. What PEFT draws at random while it loads is the same each time. Raises InputError if the
    adapter cannot be loaded; the model must not be used any more then.
    """
    import torch
    from peft import PeftModel

    bare, dtype, path = Bare.of(model), compute_dtype(model), str(variant.adapter)
    plain: Any = model
    with quiet_loading(), _as_input_error(variant, "adapter", path), torch.random.fork_rng():
        torch.manual_seed(0)
        attached: Any = PeftModel.from_pretrained(plain, path, autocast_adapter_dtype=False, is_trainable=False)
    for name, parameter in attached.named_parameters():
        if ADAPTER_NAME in name.split(".") and parameter.dtype in (torch.float32, torch.bfloat16, torch.float16):
            parameter.data = parameter.data.to(dtype)
    attached.eval().requires_grad_(False)
    overlay = bare.overlay()
    overlay.off()
    return overlay


def compute_dtype(model: CausalLM) -> torch.dtype:
    """Return the dtype of activations (in a quantised model, that of its norms and embeddings)."""
    return model.get_input_embeddings().weight.dtype


def own_quantization(model: str) -> str | None:
    """Return how the saved model itself is quantised ("nf4", "int8", another method's name), or None."""
    path = Path(model) / "config.json"
    if not path.is_file():
        return None
    stated = read_json(path).get("quantization_config")
    if not stated:
        return None
    if not isinstance(stated, dict):
        raise InputError(f"{path}: quantization_config must be an object.")
    if stated.get("load_in_4bit"):
        return str(stated.get("bnb_4bit_quant_type", "nf4"))
    return "int8" if stated.get("load_in_8bit") else str(stated.get("quant_method", "quantised"))


def _quantization(variant: Variant) -> Any:
    if variant.quantization == "none":
        return None
    if variant.quantization == "int8":
        import transformers

        bits_and_bytes: Any = transformers.BitsAndBytesConfig
        return bits_and_bytes(load_in_8bit=True)
    return nf4_config("bfloat16" if variant.dtype == "auto" else variant.dtype)


def _refuse_incomplete(variant: Variant, report: Any) -> None:
    """Refuse missing weights, which transformers would silently replace with random numbers."""
    missing = sorted(_field(report, "missing_keys"))
    mismatched = sorted(str(key) for key in _field(report, "mismatched_keys"))
    if missing or mismatched:
        what = f"lacks the weights {missing[0]}" if missing else f"has weights of another shape: {mismatched[0]}"
        more = len(missing) + len(mismatched) - 1
        raise InputError(
            f"Variant '{variant.name}': {variant.model} {what}{f' and {more} more' if more else ''}. Save it again."
        )


def _field(report: Any, name: str) -> Any:
    return report.get(name, ()) if isinstance(report, dict) else getattr(report, name, ())


@contextlib.contextmanager
def _all_on_gpus(spread: bool) -> Iterator[None]:
    """Raise MemoryError where bitsandbytes refuses to leave layers of a model to the disk."""
    try:
        yield
    except ValueError as error:
        if spread and "disk" in str(error):
            raise MemoryError(first_line(error)) from error
        raise


@contextlib.contextmanager
def _as_input_error(variant: Variant, key: str, path: str) -> Iterator[None]:
    from huggingface_hub.errors import HfHubHTTPError
    from safetensors import SafetensorError

    try:
        yield
    except (
        OSError, ValueError, LookupError, TypeError, AttributeError, AssertionError, ImportError, RuntimeError,
        SafetensorError, HfHubHTTPError,
    ) as error:  # fmt: skip
        if is_out_of_memory(error):
            raise
        what = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__  # PEFT's first line says little
        raise InputError(f"Variant '{variant.name}': its {key} {path} cannot be loaded: {what}.") from error
