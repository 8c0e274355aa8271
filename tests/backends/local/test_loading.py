"""A damaged config or tokenizer gives one sentence that names the folder, whatever the libraries raise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.backends.local.loading import load_tokenizer, skeleton, text_settings
from harness.errors import InputError
from tests.finetune.conftest import make_tokenizer


def _negative(value: Any) -> None:
    value["model"]["vocab"]["a"] = -5


def _negative_added(value: Any) -> None:
    value["added_tokens"][0]["id"] = -1


@pytest.mark.parametrize("change", [_negative, _negative_added])
def test_a_tokenizer_with_negative_ids_is_refused(change: Callable[[Any], None], tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    path = tmp_path / "tokenizer.json"
    value = json.loads(path.read_text())
    change(value)
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match="no loadable tokenizer"):
        load_tokenizer(str(tmp_path))


def test_a_tokenizer_with_a_length_that_is_no_number_is_refused(tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    path = tmp_path / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_max_length": "long"}))
    with pytest.raises(InputError, match="no loadable tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize("text", ["null", "[]", '{"a":' * 100_000])
@pytest.mark.parametrize("name", ["tokenizer.json", "tokenizer_config.json"])
def test_a_tokenizer_that_is_no_object_or_nested_deeply_is_refused(name: str, text: str, tmp_path: Path) -> None:
    make_tokenizer(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="no loadable tokenizer"):
        load_tokenizer(str(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"max_position_embeddings": "many"},
        {"model_type": ["llama"]},
        {"rope_parameters": {"rope_type": "yarn"}},
        {"dtype": "os.system"},
    ],
)
def test_a_config_that_transformers_cannot_use_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", **changes}))
    for read in (text_settings, skeleton):
        with pytest.raises(InputError, match=str(tmp_path)):
            read(str(tmp_path))
