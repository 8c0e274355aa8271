"""Checks of model and adapter folders before anything slow begins, from file headers alone and without torch.

A safetensors file starts with a header that lists its tensors, so a truncated file is detected by reading a few
kilobytes. Pickled weights are rejected: loading them can run arbitrary code.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.files import read_json
from harness.machine import hub_is_off, hub_is_reachable

_LARGEST_RANK = 65_536
_NESTED_REPEATS = re.compile(r"[+*}]\)+[+*{]")  # as in (a+)+
_HEADER_LIMIT = 100 * 1024 * 1024
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_NOT_WEIGHTS = {"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
INDEX_NAME = "model.safetensors.index.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
ADAPTER_FACTS = "finetune.json"  # beside an adapter: the record of its training
# Digests over these files depend on this order.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "vocab.txt",
    "merges.txt",
)
SETTINGS = ("config.json", "generation_config.json", *TOKENIZER_FILES)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor in a safetensors header. ``dtype`` is the format's own name, e.g. ``BF16``."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    begin: int  # offset of its first byte in the file


@dataclass(frozen=True)
class ModelArtifact:
    """A model folder that passed its checks: its configuration, its tensors and the file of each."""

    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    tensors: dict[str, TensorInfo] = field(repr=False)
    file_of: dict[str, Path] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Size of all weights in bytes."""
        return sum(info.nbytes for info in self.tensors.values())


@dataclass(frozen=True)
class AdapterArtifact:
    """An adapter folder that passed its checks."""

    path: Path
    config: dict[str, Any]
    weights: Path
    tensors: dict[str, TensorInfo] = field(repr=False)


def check_model_folder(path: Path | str) -> ModelArtifact:
    """Return the contents of a model folder.

    Raises InputError if the folder or its config.json is missing, if its weights are pickled, truncated or missing, or
    if its index names a file or tensor that does not exist.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"There is no model folder {folder}. Give the path of a folder with config.json and weights.")
    config = read_json(folder / "config.json", missing=f"{folder} is not a model folder: it has no config.json.")
    attention = config.get("attn_implementation") or config.get("_attn_implementation")
    if "/" in str(attention):
        raise InputError(f"{folder / 'config.json'} names attention code on the Hub, and such code is never run.")
    files, indexed = _weight_files(folder)
    tensors: dict[str, TensorInfo] = {}
    file_of: dict[str, Path] = {}
    for file in files:
        for name, info in safetensors_header(file).items():
            if name in tensors:
                raise InputError(f"{folder}: tensor '{name}' is in both {file_of[name].name} and {file.name}.")
            tensors[name], file_of[name] = info, file
    for name, file_name in indexed.items():
        if name not in file_of or file_of[name].name != file_name:
            raise InputError(f"{folder / INDEX_NAME} lists tensor '{name}' in {file_name}, which does not contain it.")
    return ModelArtifact(folder, config, files, tensors, file_of)


def check_adapter_folder(path: Path | str) -> AdapterArtifact:
    """Return the contents of an adapter folder.

    Raises InputError if it is not one, if its weights are unusable, or if it is of a kind that is not supported.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"There is no adapter folder {folder}. Give the folder where PEFT saved the adapter.")
    config_path = folder / "adapter_config.json"
    config = read_json(config_path, missing=f"{folder} is not an adapter folder: it has no adapter_config.json.")
    if "peft_type" not in config:
        raise InputError(f"{config_path} has no peft_type, so it is not an adapter configuration.")
    _refuse_unsupported_adapter(folder, config)
    _check_targets(config_path, config)
    weights = folder / ADAPTER_WEIGHTS
    if not weights.is_file():
        _refuse_pickles(folder)
        raise InputError(f"{folder} has no {ADAPTER_WEIGHTS}: the adapter's weights are missing.")
    return AdapterArtifact(folder, config, weights, safetensors_header(weights))


def _refuse_unsupported_adapter(folder: Path, config: dict[str, Any]) -> None:
    kind = str(config["peft_type"])
    if kind.upper() != "LORA":
        raise InputError(f"{folder} is an adapter of type {kind}; only LoRA adapters (with DoRA) are supported.")
    if config.get("megatron_config"):
        raise InputError(f"{folder} is an adapter for Megatron (megatron_config), which is not supported.")
    if config.get("alora_invocation_tokens"):
        raise InputError(f"{folder} is an activated LoRA (alora_invocation_tokens), which is not supported.")
    if config.get("init_lora_weights") == "corda":
        raise InputError(
            f"{folder} is a CorDA adapter, which lies on weights that are not saved with it. Save it as a plain LoRA, "
            "with path_initial_model_for_weight_conversion."
        )


def _check_targets(path: Path, config: dict[str, Any]) -> None:
    """Raise InputError for a rank or target modules of the wrong kind, on which PEFT fails late or never returns."""
    targets, rank = config.get("target_modules"), config.get("r", 8)
    if not isinstance(rank, int) or not 0 < rank <= _LARGEST_RANK:
        raise InputError(f"{path}: r must be a whole number from 1 to {_LARGEST_RANK}.")
    if isinstance(targets, str):
        try:
            re.compile(targets)
        except (re.error, RecursionError, OverflowError) as error:
            raise InputError(f"{path}: target_modules is not a regular expression ({first_line(error)}).") from error
        if _NESTED_REPEATS.search(targets):
            raise InputError(f"{path}: target_modules repeats a repetition, which may take for ever to match.")
    elif targets is not None and not (isinstance(targets, list) and all(isinstance(one, str) for one in targets)):
        raise InputError(f"{path}: target_modules must be a list of names, or one text.")


def safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors listed in a safetensors file's header; raise InputError if the file's size does not match."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if len(head) < 8 or 8 + length > size:
                raise InputError(f"{path} is truncated ({size} bytes). Copy or save it again.")
            if length > _HEADER_LIMIT:
                raise InputError(f"{path} is not a safetensors file.")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _tensor_info(entry, 8 + length) for name, entry in header.items()}
            end = max((tensor.begin + tensor.nbytes for tensor in tensors.values()), default=8 + length)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path} is not a safetensors file: its header cannot be read.") from error
    if end != size:
        what = "is truncated" if end > size else "has bytes after its last tensor"
        raise InputError(f"{path} {what}: {size} bytes, but its header says {end}. Copy or save it again.")
    return tensors


def has_tokenizer(folder: Path | str) -> bool:
    """Return whether a tokenizer was saved in the folder."""
    return any((Path(folder) / name).is_file() for name in ("tokenizer.json", "tokenizer.model", "vocab.json"))


def adapter_facts(adapter: Path) -> dict[str, Any]:
    """Return what finetune recorded beside an adapter; empty for adapters trained elsewhere."""
    path = adapter / ADAPTER_FACTS
    return read_json(path) if path.is_file() else {}


def resolve_model(name: str) -> Path:
    """Return the folder of a model given as a path or a Hub ID.

    A Hub ID is looked up in the local cache first, and downloaded only if the Hub answers within seconds. Raises
    InputError if there is no such folder or model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{name} is a file; give the model's folder.")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or not name.strip("/"):
        raise InputError(f"There is no model folder {name}.")
    return _from_hub(name)


def weight_files(folder: Path) -> tuple[Path, ...]:
    """Return the files that a model folder's weights are loaded from; raise InputError if any is missing."""
    return _weight_files(folder)[0]


def _weight_files(folder: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    single = folder / "model.safetensors"
    if single.is_file():  # transformers loads it even if there is an index too
        return (single,), {}
    index_path = folder / INDEX_NAME
    if index_path.is_file():
        indexed = read_json(index_path).get("weight_map")
        if not isinstance(indexed, dict) or not indexed:
            raise InputError(f"{index_path} has no weight_map.")
        for name in indexed.values():
            if not isinstance(name, str) or Path(name).name != name:
                raise InputError(f"{index_path} names {name!r:.80}, which is not a file of its folder.")
        files = tuple(folder / name for name in sorted(set(indexed.values())))
        for file in files:
            if not file.is_file():
                raise InputError(f"{folder} lacks {file.name}, a shard listed in its index.")
        return files, indexed
    _refuse_pickles(folder)
    raise InputError(f"{folder} has no model.safetensors: the weights are missing.")


def _refuse_pickles(folder: Path) -> None:
    for file in (file for pattern in _PICKLED for file in sorted(folder.glob(pattern))):
        if file.name not in _NOT_WEIGHTS:
            raise InputError(
                f"{file} is a pickled file, and loading it could run arbitrary code: only safetensors is accepted. "
                "Save the weights again with safe_serialization."
            )


def _tensor_info(entry: dict[str, Any], data_begins: int) -> TensorInfo:
    start, end = (int(offset) for offset in entry["data_offsets"])
    dtype, shape = str(entry["dtype"]), tuple(int(n) for n in entry["shape"])
    bits = re.search(r"\d+", dtype)  # of one number; of BOOL and formats to come nothing is known
    if start < 0 or min(shape, default=0) < 0 or (bits and (end - start) * 8 != math.prod(shape) * int(bits[0])):
        raise ValueError("a tensor's place in the file does not fit its shape")
    return TensorInfo(dtype, shape, end - start, data_begins + start)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"There is no model folder '{name}', and it is not a valid Hub ID.") from error
    except LocalEntryNotFoundError as error:
        if hub_is_off() or not hub_is_reachable():
            raise InputError(
                f"There is no model folder '{name}', it is not in the local cache, and the Hub cannot be reached."
            ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error, 120)
        raise InputError(f"'{name}' is neither a folder nor a model on the Hub ({reason}).") from error
