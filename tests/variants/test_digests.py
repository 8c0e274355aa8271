"""Digests change with the function and with nothing else."""

from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.errors import InputError
from harness.files import digest_file, digest_value
from harness.variants.artifacts import INDEX_NAME
from harness.variants.digests import digest_adapter_folder, digest_model_folder, is_adapter, is_model

Tensors = dict[str, "np.ndarray[Any, Any]"]
TENSORS: Tensors = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1.0, -0.0], np.float16),
}


def save(folder: Path, tensors: Tensors = TENSORS) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text("{}", encoding="utf-8")
    return folder


def save_in_shards(folder: Path, tensors: Tensors) -> Path:
    folder.mkdir()
    for name, tensor in tensors.items():
        save_file({name: tensor}, folder / f"model-{name}.safetensors", metadata={"format": "pt"})
    index = {"weight_map": {name: f"model-{name}.safetensors" for name in tensors}}
    (folder / INDEX_NAME).write_text(json.dumps(index), encoding="utf-8")
    return folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return save(tmp_path / "model")


def test_a_file_is_digested_as_sha256sum_does(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100_000  # several blocks
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_model_is_its_weights_and_not_its_configuration(model: Path) -> None:
    before = digest_model_folder(model)
    (model / "config.json").write_text('{"transformers_version": "9"}', encoding="utf-8")
    assert digest_model_folder(model) == before


def test_the_digest_is_a_tree_of_sha256_over_the_sorted_tensors(model: Path) -> None:
    leaves = [
        ["a", "F16", [2], hashlib.sha256(bytes.fromhex("003c0080")).hexdigest()],
        ["b", "F32", [2, 3], hashlib.sha256(struct.pack("<6f", *range(6))).hexdigest()],
    ]
    text = json.dumps(leaves, separators=(",", ":"))
    assert digest_model_folder(model) == "v2:" + hashlib.sha256(text.encode()).hexdigest()


def test_saving_again_in_other_shards_does_not_change_a_digest(model: Path, tmp_path: Path) -> None:
    shards = save_in_shards(tmp_path / "shards", TENSORS)
    assert digest_model_folder(shards) == digest_model_folder(model)


@pytest.mark.parametrize(
    "change",
    [
        {"a": np.array([1.0, 0.0], np.float16)},
        {"b": np.arange(6, dtype=np.float32).reshape(3, 2)},
        {"b": np.arange(6, dtype=np.float32).view(np.int32).reshape(2, 3)},
        {"c": np.zeros(1, np.float32)},
    ],
    ids=["bytes", "shape", "dtype", "one more"],
)
def test_anything_else_about_a_tensor_does(model: Path, tmp_path: Path, change: Tensors) -> None:
    assert digest_model_folder(save(tmp_path / "other", TENSORS | change)) != digest_model_folder(model)


def test_what_is_digested_is_what_transformers_loads_where_a_file_lies_beside_shards(model: Path) -> None:
    (model / INDEX_NAME).write_text(json.dumps({"weight_map": {"z": "model-z.safetensors"}}), encoding="utf-8")
    save_file({"z": np.zeros(1, np.float32)}, model / "model-z.safetensors")
    assert digest_model_folder(model) == digest_model_folder(save(model.with_name("alone")))


def test_an_adapter_is_its_weights_and_what_scales_them(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "adapter_model.safetensors")

    def digest(**config: object) -> str:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, **config}), encoding="utf-8")
        return digest_adapter_folder(tmp_path)

    assert digest(base_model_name_or_path="here") == digest(base_model_name_or_path="there")
    assert digest(target_modules=["q", "v"]) == digest(target_modules=["v", "q"])
    assert digest(lora_alpha=8) != digest(lora_alpha=16)


def test_digests_that_version_0_1_recorded_are_recognised(model: Path) -> None:
    """It digested name and bytes of whole files."""
    file = hashlib.sha256((model / "model.safetensors").read_bytes()).hexdigest()
    recorded = hashlib.sha256(f'[["model.safetensors","{file}"]]'.encode()).hexdigest()
    assert is_model(model, recorded)
    assert is_model(model, digest_model_folder(model))
    save(model, TENSORS | {"a": np.array([2.0, 0.0], np.float16)})
    assert not is_model(model, recorded)


def test_recorded_adapter_digests_of_version_0_1_are_recognised(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "adapter_model.safetensors")
    (tmp_path / "adapter_config.json").write_text('{"r": 8, "task_type": "CAUSAL_LM"}', encoding="utf-8")
    file = hashlib.sha256((tmp_path / "adapter_model.safetensors").read_bytes()).hexdigest()
    weights = hashlib.sha256(f'[["adapter_model.safetensors","{file}"]]'.encode()).hexdigest()
    assert is_adapter(tmp_path, hashlib.sha256(f'["{weights}",{{"r":8}}]'.encode()).hexdigest())


def test_keys_in_another_order_are_the_same_value() -> None:
    assert digest_value({"a": 1, "b": [2]}) == digest_value({"b": [2], "a": 1})


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no model\.safetensors"):
        digest_model_folder(tmp_path)
