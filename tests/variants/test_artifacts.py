"""A folder without a model, or with a broken one, gives one sentence that names it; torch is not needed."""

from __future__ import annotations

import json
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from harness.errors import InputError
from harness.variants.artifacts import (
    INDEX_NAME,
    check_adapter_folder,
    check_model_folder,
    resolve_model,
    safetensors_header,
)


def save(path: Path, **tensors: list[float]) -> Path:
    """Write a safetensors file by hand: header length, header, bytes."""
    header, data = {}, b""
    for name, values in tensors.items():
        start = len(data)
        data += struct.pack(f"<{len(values)}f", *values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [start, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "llama"}', encoding="utf-8")
    save(folder / "model.safetensors", a=[1.0, 2.0], b=[3.0])
    return folder


@pytest.fixture
def sharded(model: Path) -> Path:
    (model / "model.safetensors").unlink()
    save(model / "model-00001-of-00002.safetensors", a=[1.0])
    save(model / "model-00002-of-00002.safetensors", b=[2.0])
    weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (model / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    return model


def test_a_whole_model_tells_its_tensors(model: Path) -> None:
    found = check_model_folder(model)
    assert found.config["model_type"] == "llama"
    assert {name: info.shape for name, info in found.tensors.items()} == {"a": (2,), "b": (1,)}
    assert found.nbytes == 12


def test_a_sharded_model_tells_which_file_holds_what(sharded: Path) -> None:
    assert check_model_folder(sharded).file_of["b"].name == "model-00002-of-00002.safetensors"


def test_the_header_agrees_with_the_library_that_wrote_it(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    save_file({"x": np.zeros((3, 5), dtype=np.float16)}, str(tmp_path / "x.safetensors"))
    info = safetensors_header(tmp_path / "x.safetensors")["x"]
    assert (info.dtype, info.shape, info.nbytes) == ("F16", (3, 5), 30)


@pytest.mark.parametrize("keep", [-1, 40, 5, 0])
def test_a_file_cut_short_is_found_wherever_it_was_cut(model: Path, keep: int) -> None:
    path = model / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match="is truncated"):
        check_model_folder(model)


def test_bytes_after_the_end_are_found(model: Path) -> None:
    with (model / "model.safetensors").open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="bytes after its last tensor"):
        check_model_folder(model)


@pytest.mark.parametrize("text", ["not a header at all", "[]", '{"a": {"dtype": "F32"}}'])
def test_what_is_no_safetensors_file_is_found(model: Path, text: str) -> None:
    (model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text.encode())
    with pytest.raises(InputError, match="not a safetensors file"):
        check_model_folder(model)


def test_a_pickled_model_is_refused(model: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model.bin is a pickled file.*only safetensors"):
        check_model_folder(model)


def test_a_pickled_adapter_is_refused(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}', encoding="utf-8")
    (tmp_path / "adapter_model.bin").write_bytes(b"\x80\x04")
    with pytest.raises(InputError, match="pickled"):
        check_adapter_folder(tmp_path)


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(InputError, match=r"lacks model-00002-of-00002.safetensors"):
        check_model_folder(sharded)


def test_an_index_that_misplaces_a_tensor_is_found(sharded: Path) -> None:
    save(sharded / "model-00002-of-00002.safetensors", c=[2.0])
    with pytest.raises(InputError, match="lists tensor 'b'"):
        check_model_folder(sharded)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no model folder"):
        check_model_folder(tmp_path / "absent")
    with pytest.raises(InputError, match=r"no config\.json"):
        check_model_folder(tmp_path)
    with pytest.raises(InputError, match=r"no adapter_config\.json"):
        check_adapter_folder(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match="not valid JSON"):
        check_model_folder(tmp_path)


@pytest.mark.parametrize("name", ["/absent/model", "./absent", "~/absent", "a/b/c"])
def test_a_path_is_never_taken_for_a_hub_id(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *args, **kwargs: pytest.fail("asked the network"))
    with pytest.raises(InputError, match="There is no model folder"):
        resolve_model(name)


@pytest.mark.parametrize("name", ["someone/no-such-model", "no-such-model"])
def test_a_hub_id_without_a_network_is_one_sentence_at_once(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refused(*args: object, **kwargs: object) -> None:
        raise ConnectionRefusedError

    real, asked = huggingface_hub.snapshot_download, []

    def download(*args: Any, **kwargs: Any) -> str:
        asked.append(kwargs.get("local_files_only", False))
        return str(real(*args, **kwargs))

    monkeypatch.setattr(socket, "create_connection", refused)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match="the Hub cannot be reached") as caught:
        resolve_model(name)
    assert "\n" not in str(caught.value)
    assert asked == [True]  # the local cache alone: the hub's client would try again for a minute


def test_checking_needs_no_torch(model: Path) -> None:
    code = (
        "import sys; from harness.variants.artifacts import check_model_folder\n"
        "from harness.variants.digests import digest_model_folder\n"
        f"check_model_folder({str(model)!r}); digest_model_folder({str(model)!r}); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("file", ["../../secret.safetensors", "/etc/passwd", ["model.safetensors"], None])
def test_an_index_names_files_of_its_folder_only(sharded: Path, file: object) -> None:
    (sharded / INDEX_NAME).write_text(json.dumps({"weight_map": {"a": file}}), encoding="utf-8")
    with pytest.raises(InputError, match="not a file of its folder"):
        check_model_folder(sharded)


@pytest.mark.parametrize(
    "header",
    [
        "[" * 100_000,
        '{"a": {"dtype": "F32", "shape": [1e999], "data_offsets": [0, 4]}}',
        '{"a": {"dtype": "F32", "shape": [1], "data_offsets": [-1, 4]}}',
        '{"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 4]}}',
    ],
)
def test_a_header_that_no_writer_writes_is_one_sentence(tmp_path: Path, header: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header.encode())
    with pytest.raises(InputError, match="header cannot be read"):
        safetensors_header(path)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_attention_code_on_the_hub_is_refused(model: Path, key: str) -> None:
    (model / "config.json").write_text(json.dumps({"model_type": "llama", key: "someone/kernel"}), encoding="utf-8")
    with pytest.raises(InputError, match="never run"):
        check_model_folder(model)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"target_modules": ["q_proj", None]}, "list of names"),
        ({"target_modules": 3}, "list of names"),
        ({"target_modules": "(q_proj"}, "not a regular expression"),
        ({"target_modules": "(([a-z._0-9])+)+X"}, "repeats a repetition"),
        ({"r": 10**12}, "whole number from 1"),
        ({"r": None}, "whole number from 1"),
        ({"megatron_config": {"a": 1}, "megatron_core": "evil"}, "Megatron"),
    ],
)
def test_an_adapter_config_of_the_wrong_kind_is_one_sentence(tmp_path: Path, changes: Any, said: str) -> None:
    config = {"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"], **changes}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save(tmp_path / "adapter_model.safetensors", a=[1.0])
    with pytest.raises(InputError, match=said):
        check_adapter_folder(tmp_path)


@pytest.mark.parametrize(
    "targets",
    [None, "all-linear", ["q_proj"], r"(?:.*?(?:vision|language).*?(?:q_proj|v_proj).*?)|(?:\bmodel\.[\d]{1,}\.q)"],
)
def test_target_modules_as_they_are_saved_pass(tmp_path: Path, targets: Any) -> None:
    config = {"peft_type": "LORA", "r": 8, "target_modules": targets}
    (tmp_path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    save(tmp_path / "adapter_model.safetensors", a=[1.0])
    check_adapter_folder(tmp_path)
