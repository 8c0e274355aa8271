"""``--set key=value`` reaches nested keys and leaves its input alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.errors import InputError
from harness.yamlfile import apply_overrides, load


def test_nested_key_is_set_and_typed() -> None:
    assert apply_overrides({"generation": {"stop": ["x"]}}, ["generation.max_new_tokens=64"]) == {
        "generation": {"stop": ["x"], "max_new_tokens": 64}
    }


@pytest.mark.parametrize(("text", "value"), [("1e-4", 1e-4), ("-2.5E3", -2500.0), ("nan", "nan"), ("e4", "e4")])
def test_plain_exponents_are_numbers_and_words_are_not(text: str, value: float | str) -> None:
    assert apply_overrides({}, [f"a={text}"]) == {"a": value}


def test_list_value_is_read_as_yaml() -> None:
    assert apply_overrides({}, ["passes=[latency,memory]"]) == {"passes": ["latency", "memory"]}


def test_input_is_not_changed() -> None:
    before = {"generation": {"max_new_tokens": 1}}
    apply_overrides(before, ["generation.max_new_tokens=2"])
    assert before == {"generation": {"max_new_tokens": 1}}


@pytest.mark.parametrize("override", ["limit", "=3", "", "a..b=1", ".a=1"])
def test_override_without_key_and_value_is_refused(override: str) -> None:
    with pytest.raises(InputError, match="key=value"):
        apply_overrides({}, [override])


def test_path_through_a_plain_value_is_refused() -> None:
    with pytest.raises(InputError, match="'limit' holds a value"):
        apply_overrides({"limit": 3}, ["limit.x=1"])


def test_a_section_left_empty_can_be_filled() -> None:
    assert apply_overrides({"dialogues": None}, ["dialogues.source=x.jsonl"]) == {"dialogues": {"source": "x.jsonl"}}


FILE = "variants: v.json\nseed: 7\ngeneration: {max_new_tokens: 8}\n"


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("seed=many", "--set seed=many: seed: input should be a valid integer"),
        ("generation.max_new_tokens=0", "--set generation.max_new_tokens=0: generation.max_new_tokens: input"),
        ("generaton.stop=[x]", "--set generaton.stop=[x]: unknown key 'generaton'. Did you mean 'generation'?"),
        ("generation.stp=[x]", "--set generation.stp=[x]: unknown key 'generation.stp'. Did you mean 'stop'?"),
    ],
)
def test_a_wrong_value_is_traced_to_the_override_that_set_it(tmp_path: Path, override: str, sentence: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(FILE)
    with pytest.raises(InputError) as refused:
        load(RunConfig, path, ["limit=3", override])
    assert str(refused.value).startswith(sentence)


def test_a_wrong_value_of_the_file_is_the_files_whatever_else_is_set(tmp_path: Path) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(FILE.replace("seed: 7", "seed: many"))
    with pytest.raises(InputError) as refused:
        load(RunConfig, path, ["limit=3"])
    assert str(refused.value).startswith(f"{path}, line 2: seed: input should be a valid integer")
