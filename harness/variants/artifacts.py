"""Is this folder a model, is this one an adapter? Checked before anything slow, from headers alone, without torch.

A safetensors file begins with its own table of contents, so a file cut short is found by reading a few kilobytes.
Pickled weights are refused: loading one runs whatever code it holds.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.errors import InputError, first_line
from harness.files import read_json
from harness.machine import hub_is_off, hub_is_reachable

_HEADER_LIMIT = 100 * 1024 * 1024
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_NOT_WEIGHTS = {"training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth"}
INDEX_NAME = "model.safetensors.index.json"
ADAPTER_FACTS = "finetune.json"  # beside an adapter: what our training recorded of itself
# Their order is that of the digests over them.
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


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of a safetensors file, as its header has it. ``dtype`` is the format's own name, e.g. ``BF16``."""

    dtype: str
    shape: tuple[int, ...]
    nbytes: int
    begin: int  # its first byte in the file


@dataclass(frozen=True)
class ModelArtifact:
    """A model folder that passed its checks: its configuration and, by name, which file holds which tensor."""

    path: Path
    config: dict[str, Any]
    files: tuple[Path, ...]
    tensors: dict[str, TensorInfo] = field(repr=False)
    file_of: dict[str, Path] = field(repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes of all weights."""
        return sum(info.nbytes for info in self.tensors.values())


@dataclass(frozen=True)
class AdapterArtifact:
    """An adapter folder that passed its checks."""

    path: Path
    config: dict[str, Any]
    weights: Path
    tensors: dict[str, TensorInfo] = field(repr=False)


def check_model_folder(path: Path | str) -> ModelArtifact:
    """Return what a model folder holds.

    Raises InputError when the folder or its config.json is missing, when its weights are pickled, cut short or
    absent, or when its index names a file or tensor that is not there.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"There is no model folder {folder}. Give the path of a folder with config.json and weights.")
    config = read_json(folder / "config.json", missing=f"{folder} is not a model folder: it has no config.json.")
    files, indexed = _weight_files(folder)
    tensors: dict[str, TensorInfo] = {}
    file_of: dict[str, Path] = {}
    for file in files:
        for name, info in safetensors_header(file).items():
            if name in tensors:
                raise InputError(f"{folder}: tensor '{name}' stands in both {file_of[name].name} and {file.name}.")
            tensors[name], file_of[name] = info, file
    for name, file_name in indexed.items():
        if name not in file_of or file_of[name].name != file_name:
            raise InputError(f"{folder / INDEX_NAME} places tensor '{name}' in {file_name}, which does not hold it.")
    return ModelArtifact(folder, config, files, tensors, file_of)


def check_adapter_folder(path: Path | str) -> AdapterArtifact:
    """Return what an adapter folder holds; raise InputError when it is none, or its weights cannot be used."""
    folder = Path(path)
    if not folder.is_dir():
        raise InputError(f"There is no adapter folder {folder}. Give the folder that PEFT saved the adapter in.")
    config_path = folder / "adapter_config.json"
    config = read_json(config_path, missing=f"{folder} is not an adapter folder: it has no adapter_config.json.")
    if "peft_type" not in config:
        raise InputError(f"{config_path} names no peft_type, so it is not the configuration of an adapter.")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        _refuse_pickles(folder)
        raise InputError(f"{folder} holds no adapter_model.safetensors: the adapter's weights are missing.")
    return AdapterArtifact(folder, config, weights, safetensors_header(weights))


def safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """Return the tensors that a safetensors file announces; raise InputError when it holds fewer bytes than that."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else 0
            if len(head) < 8 or 8 + length > size:
                raise InputError(f"{path} is cut short ({size} bytes). Copy or save it again.")
            if length > _HEADER_LIMIT:
                raise InputError(f"{path} is not a safetensors file.")
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = {name: _tensor_info(entry, 8 + length) for name, entry in header.items()}
            end = max((tensor.begin + tensor.nbytes for tensor in tensors.values()), default=8 + length)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path} is not a safetensors file: its header cannot be read.") from error
    if end != size:
        what = "is cut short" if end > size else "has bytes after its last tensor"
        raise InputError(f"{path} {what}: {size} bytes where its header says {end}. Copy or save it again.")
    return tensors


def adapter_facts(adapter: Path) -> dict[str, Any]:
    """Return what our training recorded beside an adapter; empty for adapters made elsewhere."""
    path = adapter / ADAPTER_FACTS
    return read_json(path) if path.is_file() else {}


def resolve_model(name: str) -> Path:
    """Return the folder of a model given as a path or a hub id.

    A hub id is looked up in the local cache first and fetched only where the hub answers within seconds. Raises
    InputError, in one sentence, where there is neither folder nor model.
    """
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise InputError(f"{name} is a file; a model is given as its folder.")
    if name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name or not name.strip("/"):
        raise InputError(f"There is no model folder {name}.")
    return _from_hub(name)


def _weight_files(folder: Path) -> tuple[tuple[Path, ...], dict[str, str]]:
    index_path = folder / INDEX_NAME
    if index_path.is_file():
        indexed = read_json(index_path).get("weight_map")
        if not isinstance(indexed, dict) or not indexed:
            raise InputError(f"{index_path} has no weight_map.")
        files = tuple(folder / name for name in sorted(set(indexed.values())))
        for file in files:
            if not file.is_file():
                raise InputError(f"{folder} lacks {file.name}, which its index names: a shard is missing.")
        return files, indexed
    single = folder / "model.safetensors"
    if single.is_file():
        return (single,), {}
    _refuse_pickles(folder)
    raise InputError(f"{folder} holds no model.safetensors: the weights are missing.")


def _refuse_pickles(folder: Path) -> None:
    for pattern in _PICKLED:
        for file in sorted(folder.glob(pattern)):
            if file.name not in _NOT_WEIGHTS:
                raise InputError(
                    f"{file} is a pickled file, and loading one can run any code: only safetensors are accepted. "
                    "Save the weights again with safe_serialization."
                )


def _tensor_info(entry: dict[str, Any], data_begins: int) -> TensorInfo:
    start, end = (int(offset) for offset in entry["data_offsets"])
    return TensorInfo(str(entry["dtype"]), tuple(int(n) for n in entry["shape"]), end - start, data_begins + start)


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = ["*.safetensors", "*.json", "*.model", "*.txt", "*.jinja"]
    try:
        return Path(snapshot_download(name, allow_patterns=patterns, local_files_only=True))
    except HFValidationError as error:
        raise InputError(f"There is no model folder '{name}', and it is no hub id either.") from error
    except LocalEntryNotFoundError as error:
        if hub_is_off() or not hub_is_reachable():
            raise InputError(
                f"There is no model folder '{name}', it is not in the local cache, and the model hub cannot be reached."
            ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=patterns))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        reason = first_line(error, 120)
        raise InputError(f"'{name}' is neither a folder nor a model that the hub offers ({reason}).") from error
