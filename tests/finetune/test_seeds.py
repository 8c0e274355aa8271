"""Several adapters of one recipe: each trained once, listed with its seed, and the first as if it were alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import finetune
from finetune import pipeline, training
from finetune.cli import main
from harness.variants.digests import digest_adapter_folder
from harness.variants.folders import local_variants
from harness.variants.model import Variant, VariantsFile
from harness.variants.resolve import resolve_variants
from tests.finetune.conftest import write_recipe

NAMES = ["adapter", "adapter-seed43", "adapter-seed44"]


@pytest.fixture(scope="module")
def recipe(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_recipe(tmp_path_factory.mktemp("recipe"), base, quantization="none", dtype="float32")


@pytest.fixture(scope="module")
def alone(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One adapter, made without the option."""
    out = tmp_path_factory.mktemp("alone") / "out"
    finetune.run(recipe, out)
    return out


@pytest.fixture(scope="module")
def three(recipe: Path, alone: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three adapters, the first of which was there before."""
    out = tmp_path_factory.mktemp("three") / "out"
    shutil.copytree(alone, out)
    finetune.run(recipe, out, seeds=3)
    return out


def adapters(made: VariantsFile) -> dict[str, Variant]:
    return {variant.name: variant for variant in made.variants if variant.kind == "adapter"}


def listed(out: Path) -> VariantsFile:
    return VariantsFile.model_validate_json((out / "variants.json").read_text(encoding="utf-8"))


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the folders that are trained, instead of training them."""
    names: list[str] = []

    def stop(job: Any, out: Path, **kwargs: Any) -> dict[str, Any]:
        names.append(out.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_adapter", stop)
    return names


def test_adapters_are_listed_with_their_seed_and_what_they_have_in_common(three: Path) -> None:
    found = adapters(listed(three))
    assert [(name, one.seed, one.adapter) for name, one in found.items()] == [
        (name, seed, name) for name, seed in zip(NAMES, (42, 43, 44), strict=True)
    ]
    assert len({one.recipe_digest for one in found.values()}) == 1
    assert len({digest_adapter_folder(three / name) for name in NAMES}) == 3
    assert [one.name for one in listed(three).variants] == ["base", *NAMES, "merged"]


def test_the_first_adapter_and_its_merge_are_those_of_one_training(alone: Path, three: Path) -> None:
    assert listed(three).variants[-1] == listed(alone).variants[-1]
    assert adapters(listed(three))["adapter"].adapter_digest == adapters(listed(alone))["adapter"].adapter_digest
    assert (three / "adapter/finetune.json").read_bytes() == (alone / "adapter/finetune.json").read_bytes()


def test_one_seed_is_listed_as_before(alone: Path, recipe: Path) -> None:
    before = (alone / "variants.json").read_bytes()
    assert "recipe_digest" not in json.loads(before)["variants"][1]
    finetune.run(recipe, alone, seeds=1)
    assert (alone / "variants.json").read_bytes() == before


def test_what_is_trained_is_not_trained_again(three: Path, recipe: Path, trained: list[str]) -> None:
    before = (three / "variants.json").read_bytes()
    finetune.run(recipe, three, seeds=3)
    assert (trained, (three / "variants.json").read_bytes()) == ([], before)


def test_more_seeds_train_only_the_new_ones(three: Path, recipe: Path, trained: list[str]) -> None:
    with pytest.raises(KeyboardInterrupt):
        finetune.run(recipe, three, seeds=4)
    assert trained == ["adapter-seed45"]


def test_without_a_number_what_was_trained_stays_listed(three: Path, recipe: Path, trained: list[str]) -> None:
    assert list(adapters(finetune.run(recipe, three))) == NAMES
    assert trained == []


def test_another_recipe_lists_no_seeds_of_the_one_before(three: Path, recipe: Path, tmp_path: Path) -> None:
    chosen, out = pipeline.load_recipe(recipe, ["training.max_steps=5"]), tmp_path / "out"
    shutil.copytree(three, out)
    prepared = pipeline.prepare(chosen, out)
    assert [one.name for one in pipeline.trainings_of(prepared, None)] == ["adapter"]
    assert prepared.recipe_digest != adapters(listed(three))["adapter"].recipe_digest


def test_fewer_seeds_list_fewer_adapters(three: Path, recipe: Path, tmp_path: Path, trained: list[str]) -> None:
    out = tmp_path / "out"
    shutil.copytree(three, out)
    assert list(adapters(finetune.run(recipe, out, seeds=2))) == NAMES[:2]
    assert trained == []


def test_adapters_listed_by_folder_are_known_by_what_is_recorded_beside_them(three: Path, base: Path) -> None:
    by_hand = [Variant(name=name, kind="adapter", model=str(base), adapter=str(three / name)) for name in NAMES]
    found = local_variants(resolve_variants(by_hand)).variants
    listed_ones = adapters(listed(three))
    for one in found:
        assert (one.recipe_digest, one.seed) == (listed_ones[one.name].recipe_digest, listed_ones[one.name].seed)


def test_an_adapter_without_such_a_record_is_of_no_recipe(adapter: Path, base: Path) -> None:
    (found,) = local_variants(
        resolve_variants([Variant(name="a", kind="adapter", model=str(base), adapter=str(adapter))])
    ).variants
    assert (found.recipe_digest, found.seed) == (None, None)


@pytest.mark.parametrize("seeds", ["0", "-1", "x", "1.5"])
def test_a_number_that_is_none_is_wrong_usage(
    seeds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "quickstart", "--seeds", seeds]) == 2
    assert "Invalid value for '--seeds'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_names_the_adapters_and_all_their_steps(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(recipe), "--seeds", "2", "--dry-run"]) == 0
    said = "2 adapters, one after another, 8 steps in all: adapter (seed 42), adapter-seed43 (seed 43)."
    assert said in capsys.readouterr().out


def test_a_dry_run_counts_no_adapter_that_was_trained_before(
    recipe: Path, three: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in three.rglob("*")}
    assert main(["run", str(recipe), "--out", str(three), "--seeds", "4", "--dry-run"]) == 0
    said = capsys.readouterr().out
    names = "adapter (seed 42), adapter-seed43 (seed 43), adapter-seed44 (seed 44)"
    assert f"Made before from the same inputs, and reused: {names}." in said
    assert "1 adapter, 4 steps in all: adapter-seed45 (seed 45)." in said
    assert {path: path.stat().st_mtime_ns for path in three.rglob("*")} == before
