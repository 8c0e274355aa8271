"""A wrong config is one sentence with the file, the line and the nearest known key."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.errors import InputError
from harness.yamlfile import Strict, load, read_yaml


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_misspelt_key_names_line_and_nearest_key(tmp_path: Path) -> None:
    path = write(tmp_path, "variants: v.json\ngeneration:\n  max_new_token: 5\n")
    with pytest.raises(InputError, match=r"line 3: unknown key 'generation.max_new_token'.*'max_new_tokens'"):
        load(RunConfig, path)


def test_misspelt_required_key_is_named_rather_than_the_missing_one(tmp_path: Path) -> None:
    path = write(tmp_path, "varients: v.json\n")
    with pytest.raises(InputError, match=r"line 1: unknown key 'varients'. Did you mean 'variants'\?"):
        load(RunConfig, path)


def test_wrong_value_names_key_and_value(tmp_path: Path) -> None:
    path = write(tmp_path, "variants: v.json\nlimit: 0\n")
    with pytest.raises(InputError, match=r"line 2: limit: .*greater than or equal to 1.*not 0"):
        load(RunConfig, path)


VARIANT = "variants:\n  - {name: base, kind: base, model: m}\n"


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (
            "{name: a, kind: bas, model: m}",
            "line 3: variants.1.kind: input should be 'base', 'adapter', 'merged' or 'endpoint'",
        ),
        ("{name: a, knd: base, model: m}", r"line 3: unknown key 'variants.1.knd'. Did you mean 'kind'\?"),
        ("{kind: base, model: m}", "line 3: key 'variants.1.name' is missing"),
        ("{name: a, kind: adapter, model: m}", "line 3: variants.1: variant 'a' is an adapter but has no 'adapter'"),
    ],
)
def test_a_mistake_in_a_listed_variant_is_named_and_not_that_a_list_is_no_text(
    entry: str, said: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=said):
        load(RunConfig, write(tmp_path, f"{VARIANT}  - {entry}\n"))


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 3: key 'variants' is repeated"):
        read_yaml(write(tmp_path, "variants: a\nseed: 1\nvariants: b\n"))


def test_broken_yaml_names_the_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"line 2: not valid YAML"):
        read_yaml(write(tmp_path, "a: [1,\nb: }\n"))


def test_alias_to_itself_ends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"refers to itself|not valid YAML"):
        read_yaml(write(tmp_path, "a: &x [*x]\n"))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xff\xfe\x00bad")
    with pytest.raises(InputError, match="not UTF-8"):
        read_yaml(path)


def test_a_list_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected keys and values, found list"):
        load(RunConfig, write(tmp_path, "- 1\n"))


def test_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Cannot read .*absent\.yaml"):
        read_yaml(tmp_path / "absent.yaml")


def test_merges_of_merges_are_refused_before_they_are_followed(tmp_path: Path) -> None:
    levels = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(9)) + "}"]
    levels += [f"a{n}: &a{n} {{<<: [" + ", ".join([f"*a{n - 1}"] * 9) + "]}" for n in range(1, 12)]
    path = tmp_path / "bomb.yaml"
    path.write_text("\n".join(levels))
    with pytest.raises(InputError, match="too many keys"):
        read_yaml(path)


def test_a_key_that_is_a_list_is_refused_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "odd.yaml"
    path.write_text("a: 1\n[1, 2]: b\n")
    with pytest.raises(InputError, match="line 2: a key must be plain text"):
        read_yaml(path)


def test_a_number_that_is_not_finite_is_refused() -> None:
    class Model(Strict):
        seconds: float

    with pytest.raises(ValueError, match="finite number"):
        Model(seconds=float("inf"))
