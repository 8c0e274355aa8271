"""``variants.json``: paths become absolute, and what is wrong with it is said."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.config import RunConfig
from harness.errors import InputError
from harness.jobs.prepare import prepare
from harness.progress import SilentProgress
from harness.variants.model import Variant, VariantsFile, write_variants
from harness.variants.relations import FidelityPair, base_of, reference_variant
from harness.variants.resolve import read_variants, resolve_variants


def make(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    (tmp_path / "adapter").mkdir()
    manifest = VariantsFile(
        schema=1,
        variants=(
            Variant(name="base", kind="base", model="base"),
            Variant(name="adapter", kind="adapter", model="base", adapter="adapter", quantization="nf4"),
        ),
    )
    write_variants(manifest, tmp_path / "variants.json")
    return tmp_path / "variants.json"


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    resolved = resolve_variants(str(make(tmp_path)))
    assert resolved.variants[1].model == str(tmp_path / "base")
    assert resolved.variants[1].adapter == str(tmp_path / "adapter")


def test_hub_id_stays_as_it_is(tmp_path: Path) -> None:
    named = (Variant(name="base", kind="base", model="someone/some-model"),)
    assert resolve_variants(named, tmp_path).variants[0].model == "someone/some-model"


def test_missing_file_says_how_to_make_it(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="python -m finetune run"):
        read_variants(tmp_path / "variants.json")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not valid JSON"),
        (json.dumps({"schema": 1, "variants": []}), "list at least one"),
        (json.dumps({"schema": 1, "variants": [{"name": "a", "kind": "base", "model": "b", "quantisation": "nf4"}]}),
         "Did you mean 'quantization'"),
        (json.dumps({"schema": 1, "variants": [{"name": "a", "kind": "adapter", "model": "b"}]}), "has no 'adapter'"),
        (json.dumps({"schema": 1, "variants": [{"name": "a", "kind": "base", "model": "b"}] * 2}), "used twice"),
        (json.dumps({"schema": 1, "variants": [{"name": "../x", "kind": "base", "model": "b"}]}), "name"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "variants.json"
    path.write_text(text)
    with pytest.raises(InputError, match=said):
        read_variants(path)


def test_reference_is_the_first_base() -> None:
    variants = (
        Variant(name="merged", kind="merged", model="m"),
        Variant(name="base", kind="base", model="b"),
    )
    assert reference_variant(None, variants) == "base"


def test_unknown_reference_is_refused_with_the_nearest() -> None:
    variants = (Variant(name="base", kind="base", model="b"),)
    with pytest.raises(InputError, match="Did you mean 'base'"):
        reference_variant("bas", variants)


def test_an_unknown_name_in_a_fidelity_pair_is_refused_before_anything_is_measured(tmp_path: Path) -> None:
    config = RunConfig(variants=str(make(tmp_path)), fidelity=(FidelityPair(variant="adaptor", against="base"),))
    with pytest.raises(InputError, match=r"no variant 'adaptor'.*Did you mean 'adapter'"):
        prepare(config, SilentProgress())


def test_the_only_base_listed_by_hand_is_that_of_a_recorded_merge() -> None:
    base, other = (Variant(name=name, kind="base", model=name) for name in ("base", "other"))
    merged = Variant(name="merged", kind="merged", model="merged", base_digest="b")
    assert base_of(merged, [base, merged]) is base
    assert base_of(merged, [base, other, merged]) is None  # which of the two is not known
    recorded = other.model_copy(update={"model_digest": "b"})
    assert base_of(merged, [base, recorded, merged]) is recorded
    assert base_of(merged, [recorded.model_copy(update={"model_digest": "z"}), merged]) is None


def test_a_path_with_a_null_character_is_refused(tmp_path: Path) -> None:
    variants = [{"name": "base", "kind": "base", "model": "a\0b"}]
    (tmp_path / "variants.json").write_text(json.dumps({"schema": 1, "variants": variants}))
    with pytest.raises(InputError, match="null character"):
        resolve_variants(str(tmp_path / "variants.json"))


def test_of_a_served_variant_the_tokenizer_is_a_folder_and_the_model_a_name(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    served = Variant(name="served", kind="endpoint", model="base", url="https://models.example/v1", tokenizer="base")
    write_variants(VariantsFile(schema=1, variants=(served,)), tmp_path / "variants.json")
    assert "allow_http" not in (tmp_path / "variants.json").read_text()
    (found,) = resolve_variants(str(tmp_path / "variants.json")).variants
    assert (found.model, found.tokenizer) == ("base", str(tmp_path / "base"))
