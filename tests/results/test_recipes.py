"""Variants of one recipe are found by what is recorded of them, and their mean difference over the seeds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.files import model_bytes, write_model
from harness.results.recipes import Grouped, by_recipe
from harness.results.summarize import summarize
from harness.store.folder import RunFolder
from harness.store.schema import RecipeRow, Summary
from tests.results.made_runs import REGISTRY, ids, make_run, reply, sized, write_records, write_replies

GAINS = {"base": 0.0, "adapter": 0.30, "adapter-seed43": 0.34, "adapter-seed44": 0.38}
SEEDS = {"adapter": 42, "adapter-seed43": 43, "adapter-seed44": 44}


def filled(root: Path, facts: dict[str, dict[str, Any]], n: int = 80) -> RunFolder:
    """Write a run of a base and three adapters that are better by ``GAINS``; ``facts`` are recorded of each."""
    folder = make_run(root, n=n, variants=tuple(GAINS))
    manifest = folder.read_manifest()
    known = tuple({**one, **facts.get(one["name"], {})} for one in manifest.variants)
    folder.write_manifest(manifest.model_copy(update={"variants": known}))
    generator = np.random.default_rng(0)
    hard = generator.uniform(size=n)
    for variant, gain in GAINS.items():
        values = hard + gain + 0.02 * generator.normal(size=n)
        scores = [{"quality.rouge_1": float(value), "safety.refusal": float(value > 0.9)} for value in values]
        write_replies(folder, variant, [reply(name, scores=one) for name, one in zip(ids(n), scores, strict=True)])
        write_records(folder, "memory", variant, [sized(0, weights_mib=100.0)])
    return folder


def one_recipe() -> dict[str, dict[str, Any]]:
    return {name: {"recipe_digest": "abc", "seed": seed} for name, seed in SEEDS.items()}


def the_recipe(folder: RunFolder) -> RecipeRow:
    (found,) = summarize(folder, registry=REGISTRY).recipes
    return found


def test_a_recipe_has_the_mean_of_its_seeds_and_their_spread(tmp_path: Path) -> None:
    folder = filled(tmp_path, one_recipe())
    found = the_recipe(folder)
    assert (found.recipe_digest, found.against, found.seeds) == ("abc", "base", SEEDS)
    rouge = next(row for row in found.comparisons if row.metric == "quality.rouge_1")
    compared = summarize(folder, registry=REGISTRY).comparisons
    values = [row.value for row in compared if row.metric == rouge.metric and row.variant in SEEDS]
    assert (rouge.n, rouge.seeds, rouge.outcome, rouge.outcome_of_these) == (80, 3, "better", "better")
    assert rouge.value == pytest.approx(np.mean(np.array(values, dtype=float)))
    assert rouge.spread == pytest.approx(np.std(np.array(values, dtype=float), ddof=1))
    assert rouge.spread is not None
    assert rouge.low is not None
    assert rouge.high is not None
    # Nearly all of it is the seeds': mean ± t(2 d.f.) · SD / √3.
    assert (rouge.high - rouge.low) / 2 == pytest.approx(4.30 * rouge.spread / np.sqrt(3), rel=0.05)


def test_metrics_that_no_seed_changes_are_left_out(tmp_path: Path) -> None:
    metrics = {row.metric for row in the_recipe(filled(tmp_path, one_recipe())).comparisons}
    assert metrics == {"quality.rouge_1", "safety.refusal"}


def test_a_seed_without_the_metric_does_not_count(tmp_path: Path) -> None:
    folder = filled(tmp_path, one_recipe())
    write_replies(folder, "adapter-seed44", [reply(name) for name in ids(80)])
    assert {row.seeds for row in the_recipe(folder).comparisons} == {2}


def test_the_summary_of_a_run_without_seeds_has_no_new_key(tmp_path: Path) -> None:
    summary = summarize(filled(tmp_path, {}), registry=REGISTRY)
    assert summary.recipes == ()
    assert "recipes" not in json.loads(model_bytes(summary))


def test_recipes_survive_the_way_to_disk(tmp_path: Path) -> None:
    folder = filled(tmp_path, one_recipe())
    summary = summarize(folder, registry=REGISTRY)
    write_model(folder.summary_path, summary)
    assert folder.read_summary() == summary
    assert isinstance(summary, Summary)


def listed(*variants: tuple[str, str | None, int | None]) -> list[dict[str, Any]]:
    return [{"name": name, "recipe_digest": digest, "seed": seed} for name, digest, seed in variants]


def test_only_seeds_of_one_recipe_are_judged_together() -> None:
    variants = listed(("a", "one", 1), ("b", "two", 2), ("c", "one", 3), ("d", None, None), ("e", None, 3))
    assert by_recipe(variants).seeds == {"one": {"a": 1, "c": 3}}


def test_an_adapter_listed_twice_is_one_seed() -> None:
    assert by_recipe(listed(("nf4", "one", 1), ("unquantised", "one", 1))) == Grouped({}, ())


@pytest.mark.parametrize("known_by", ["adapter_digest", "weights"])
def test_the_same_weights_under_two_seeds_are_one_seed(known_by: str) -> None:
    variants = listed(("a", "one", 1), ("b", "one", 2))
    if known_by == "adapter_digest":
        found = by_recipe([{**one, "adapter_digest": "same"} for one in variants])
    else:
        found = by_recipe(variants, {"weights/a": "same", "weights/b": "same"})
    assert found == Grouped({}, ("b has the same weights as a, so it is no other training seed.",))


def test_two_adapters_of_one_seed_are_told_to_be_no_group() -> None:
    found = by_recipe(listed(("a", "one", 1), ("b", "one", 1)), {"weights/a": "x", "weights/b": "y"})
    assert found.seeds == {}
    assert found.left_out == (
        "a and b have other weights but the same recipe and training seed (1): only a counts as a seed of it.",
    )


def test_a_reference_among_the_seeds_leaves_nothing_to_compare_them_with(tmp_path: Path) -> None:
    folder = filled(tmp_path, one_recipe())
    manifest = folder.read_manifest()
    folder.write_manifest(manifest.model_copy(update={"reference_variant": "adapter"}))
    assert summarize(folder, registry=REGISTRY).recipes == ()
