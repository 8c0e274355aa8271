"""Digests of weights, to identify the model that was measured or trained over.

A digest is a SHA-256 over name, dtype, shape and bytes of every tensor, so it stays when the same weights are saved
again or in other shards. It begins with ``v2:``. Version 0.1.0 digested whole files; digests that it recorded are
recognised by computing them again. No torch here.
"""

from __future__ import annotations

from pathlib import Path

from harness.files import digest_file, digest_value, read_json
from harness.variants.artifacts import ADAPTER_WEIGHTS, weight_files
from harness.variants.reading import read_weights
from harness.variants.remembered import Identity, recall, remember

_FORM = "v2:"
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
    """Return one digest over the weights that are loaded from a model folder.

    The configuration is excluded: libraries rewrite it without changing the model. Raises InputError for a folder
    without safetensors.
    """
    return _digest_tensors(weight_files(Path(folder)))


def digest_adapter_folder(folder: Path | str) -> str:
    """Return one digest over an adapter's weights and the keys of its configuration that affect its output."""
    root = Path(folder)
    return joined(_digest_tensors((root / ADAPTER_WEIGHTS,)), _function(root))


def is_model(folder: Path | str, recorded: str) -> bool:
    """Return whether a recorded digest, of this or the earlier form, is that of the model folder."""
    return recorded == (digest_model_folder if is_present(recorded) else earlier_model_digest)(folder)


def is_adapter(folder: Path | str, recorded: str) -> bool:
    """Return whether a recorded digest, of this or the earlier form, is that of the adapter folder."""
    return recorded == (digest_adapter_folder if is_present(recorded) else earlier_adapter_digest)(folder)


def is_present(digest: str) -> bool:
    """Return whether a digest has the present form; only digests of one form can be compared as they are."""
    return digest.startswith(_FORM)


def joined(digest: str, *others: object) -> str:
    """Return a digest over a digest and further values, in the form of the first."""
    form = _FORM if is_present(digest) else ""
    return form + digest_value([digest, *others])


def earlier_model_digest(folder: Path | str) -> str:
    """Return a model folder's digest as version 0.1.0 recorded it."""
    files = sorted(Path(folder).glob("*.safetensors"))
    return digest_value([[file.name, _whole_file(file)] for file in files])


def earlier_adapter_digest(folder: Path | str) -> str:
    """Return an adapter's digest as version 0.1.0 recorded it."""
    return digest_value([earlier_model_digest(folder), _function(Path(folder))])


def _digest_tensors(files: tuple[Path, ...]) -> str:
    read = (one for facts in read_weights(files).values() for one in facts)
    return _FORM + digest_value(sorted([one.name, one.dtype, list(one.shape), one.sha256] for one in read))


def _function(adapter: Path) -> dict[str, object]:
    config = read_json(adapter / "adapter_config.json")
    kept = {key: value for key, value in config.items() if key not in _NOT_THE_FUNCTION}
    if isinstance(kept.get("target_modules"), list):
        kept["target_modules"] = sorted(kept["target_modules"])  # peft writes a set
    return kept


def _whole_file(file: Path) -> str:
    identity = Identity.of(file)
    known = recall("file", file, identity)
    if isinstance(known, str):
        return known
    digest = digest_file(file)
    remember("file", file, identity, digest)
    return digest
