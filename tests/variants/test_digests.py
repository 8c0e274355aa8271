"""Digests change with the function and with nothing else."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files import digest_file, digest_value
from harness.variants.digests import digest_adapter_folder, digest_model_folder


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "model.safetensors").write_bytes(b"weights")
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    return tmp_path


def test_a_file_is_digested_as_sha256sum_does(tmp_path: Path) -> None:
    data = bytes(range(256)) * 100_000  # several blocks
    (tmp_path / "file").write_bytes(data)
    assert digest_file(tmp_path / "file") == hashlib.sha256(data).hexdigest()


def test_a_model_is_its_weights_and_not_its_configuration(model: Path) -> None:
    before = digest_model_folder(model)
    (model / "config.json").write_text('{"transformers_version": "9"}', encoding="utf-8")
    assert digest_model_folder(model) == before
    (model / "model.safetensors").write_bytes(b"weightz")
    assert digest_model_folder(model) != before


def test_an_adapter_is_its_weights_and_what_scales_them(tmp_path: Path) -> None:
    (tmp_path / "adapter_model.safetensors").write_bytes(b"lora")

    def digest(**config: object) -> str:
        (tmp_path / "adapter_config.json").write_text(json.dumps({"r": 8, **config}), encoding="utf-8")
        return digest_adapter_folder(tmp_path)

    assert digest(base_model_name_or_path="here") == digest(base_model_name_or_path="there")
    assert digest(target_modules=["q", "v"]) == digest(target_modules=["v", "q"])
    assert digest(lora_alpha=8) != digest(lora_alpha=16)


def test_keys_in_another_order_are_the_same_value() -> None:
    assert digest_value({"a": 1, "b": [2]}) == digest_value({"b": [2], "a": 1})


def test_a_folder_without_weights_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no \*\.safetensors"):
        digest_model_folder(tmp_path)
