"""Adapters of one recipe that differ in the training seed alone: each metric's mean difference over the seeds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from harness.metrics.measured import MEASURED
from harness.results.analysis import Analysis
from harness.stats.seeds import weigh_seeds
from harness.stats.types import FloatArray, Samples
from harness.store.schema import RecipeRow, SeedsRow


def recipes(analysis: Analysis, names: Iterable[str]) -> tuple[RecipeRow, ...]:
    """Return a row for each recipe of which the run has adapters of several seeds, against the reference variant.

    The metrics are those of replies and references: times and memory do not depend on the seed.
    """
    manifest, measured = analysis.measured.manifest, analysis.measured
    reference = manifest.reference_among(measured.variants)
    judged = [name for name in names if measured.spec(name).family not in MEASURED]
    found = []
    for digest, seeds in by_recipe(manifest.variants, manifest.digests).seeds.items():
        if reference is not None and reference not in seeds:
            rows = (_row(analysis, name, tuple(seeds), reference) for name in judged)
            comparisons = tuple(row for row in rows if row is not None)
            found.append(RecipeRow(recipe_digest=digest, against=reference, seeds=dict(seeds), comparisons=comparisons))
    return tuple(found)


@dataclass(frozen=True)
class Grouped:
    """``seeds``: by the digest of a recipe, the seed of each of its adapters. ``left_out`` says which do not count."""

    seeds: Mapping[str, Mapping[str, int]]
    left_out: tuple[str, ...]


def by_recipe(variants: Sequence[Mapping[str, Any]], digests: Mapping[str, str] | None = None) -> Grouped:
    """Return the recipes of which there are adapters of at least two seeds.

    ``digests`` are the manifest's, which know the weights of adapters trained elsewhere. An adapter that is listed
    again, for example over another quantisation, does not count as a second seed, whatever seed is stated.
    """
    found: dict[str, dict[str, int]] = {}
    weights: dict[str, set[str]] = {}
    left_out = []
    for variant in variants:
        digest, seed, name = variant.get("recipe_digest"), variant.get("seed"), str(variant.get("name"))
        if not isinstance(digest, str) or not isinstance(seed, int):
            continue
        weights[name] = {
            str(one) for one in (variant.get("adapter_digest"), (digests or {}).get(f"weights/{name}")) if one
        }
        seeds = found.setdefault(digest, {})
        twin = next((other for other in seeds if weights[name] & weights[other]), None)
        namesake = next((other for other, known in seeds.items() if known == seed), None)
        if twin is not None:
            if seeds[twin] != seed:
                left_out.append(f"{name} has the same weights as {twin}, so it is no other training seed.")
        elif namesake is not None:
            if weights[name] and weights[namesake]:
                left_out.append(
                    f"{namesake} and {name} have other weights but the same recipe and training seed ({seed}): only "
                    f"{namesake} counts as a seed of it."
                )
        else:
            seeds[name] = seed
    return Grouped({digest: seeds for digest, seeds in found.items() if len(seeds) > 1}, tuple(left_out))


def _row(analysis: Analysis, metric: str, variants: Sequence[str], against: str) -> SeedsRow | None:
    measured = analysis.measured
    having = [variant for variant in variants if measured.has(metric, variant)]
    if len(having) < 2 or not measured.has(metric, against):
        return None
    samples = {variant: measured.samples((metric, variant, None)) for variant in (*having, against)}
    known = {variant: one for variant, one in samples.items() if isinstance(one, Samples)}
    if len(known) < len(samples):
        return None

    def sums(aligned: Samples) -> FloatArray:
        whole = next((variant for variant, one in known.items() if one is aligned), None)
        return analysis.resampled(aligned, None if whole is None else (metric, whole, None))

    evidence = weigh_seeds([known[variant] for variant in having], known[against], sums)
    made = evidence.difference(higher_is_better=measured.spec(metric).higher_is_better)
    return SeedsRow(metric=metric, **asdict(made))
