"""Adapters of one recipe with several training seeds: each, their mean and spread, and whether it is more than luck."""

from __future__ import annotations

from dataclasses import dataclass

from harness.results.recipes import by_recipe
from harness.store.schema import ComparisonRow, RecipeRow, SeedsRow
from reports.differences import difference_text, silence
from reports.numbers import amount, count, plain, scale, significant
from reports.view import RunView
from reports.words import listed, the

_TELLING = frozenset({"better", "worse", "different"})


@dataclass(frozen=True)
class SeedsTable:
    """One recipe: what its adapters are, and a row a metric. ``gains`` are those that are better by more than noise."""

    lead: str
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    gains: tuple[tuple[str, ...], ...]
    left_out: str  # how many metrics have no clear difference


def seeds_tables(view: RunView) -> tuple[SeedsTable, ...]:
    """Return a table for each recipe of which the run has several seeds."""
    return tuple(_table(view, recipe) for recipe in view.summary.recipes)


def seeds_sentences(view: RunView) -> tuple[str, ...]:
    """Return, for each of these recipes, whether its difference is more than the seeds' noise, and what is no seed."""
    told = tuple(_sentence(view, recipe) for recipe in view.summary.recipes)
    return *told, *by_recipe(view.manifest.variants, view.manifest.digests).left_out


def _table(view: RunView, recipe: RecipeRow) -> SeedsTable:
    main = view.main_measures
    shown = [row for row in recipe.comparisons if row.metric in main or {row.outcome, row.outcome_of_these} & _TELLING]
    left_out = len(recipe.comparisons) - len(shown)
    gains = [row for row in shown if row.metric not in main and row.outcome == "better"]
    each = (f"{name} (seed {seed})" for name, seed in recipe.seeds.items())
    return SeedsTable(
        lead=_sentence(view, recipe),
        headers=("Metric", *each, "Mean and its 95 % interval", "SD between seeds", "In words"),
        rows=tuple(_row(view, recipe, row) for row in shown if row not in gains),
        gains=tuple(_row(view, recipe, row) for row in gains),
        left_out=f"{count(left_out, 'metric')} without a clear difference: see summary.json." if left_out else "",
    )


def _row(view: RunView, recipe: RecipeRow, row: SeedsRow) -> tuple[str, ...]:
    unit = view.summary.metrics[row.metric].unit
    each = (view.comparison(row.metric, name, recipe.against) for name in recipe.seeds)
    differences = (difference_text(found, unit)[0] if found else "not measured" for found in each)
    name = ", ".join(part for part in (view.label(row.metric), view.unit(row.metric)) if part)
    words = ", ".join(part.replace(" ", "\u00a0") for part in in_words(recipe, row, unit).split(", "))
    return (name, *differences, _mean(row, unit), _spread(row, unit), words)


def in_words(recipe: RecipeRow, row: SeedsRow, unit: str) -> str:
    """Return what the seeds say: a difference of the recipe, one of these adapters alone, or none that is clear."""
    if row.outcome in _TELLING:
        return f"{row.outcome}, more than seed noise"
    if row.outcome_of_these in _TELLING:
        return f"{row.outcome_of_these} in these {row.seeds}, but within seed noise"
    compared = ComparisonRow(
        metric=row.metric,
        variant=next(iter(recipe.seeds)),
        against=recipe.against,
        value=row.value,
        low=row.low,
        high=row.high,
        n=row.n,
        outcome=row.outcome,
    )
    return silence(compared, unit)


def _sentence(view: RunView, recipe: RecipeRow) -> str:
    """Return one sentence about closeness and likelihood: mean, interval, spread, and whether it is more than luck."""
    found = {row.metric: row for row in recipe.comparisons}
    told = []
    for name in view.main_measures:
        if (row := found.get(name)) and row.value is not None:
            unit = view.summary.metrics[name].unit
            told.append(
                f"{view.label(name)} {_mean(row, unit)} over {count(row.seeds, 'seed')}, which differ by SD "
                f"{_spread(row, unit)}: {in_words(recipe, row, unit)}"
            )
    said = f"{listed(list(recipe.seeds))} are one recipe with {count(len(recipe.seeds), 'training seed')}"
    return f"{said}. Against {the(recipe.against)}: {'; '.join(told)}." if told else f"{said}."


def _mean(row: SeedsRow, unit: str) -> str:
    value, interval = amount(row.value, row.low, row.high, unit=unit, signed=True)
    return f"{value} ({interval})" if interval else value


def _spread(row: SeedsRow, unit: str) -> str:
    if row.spread is None:
        return "–"
    factor, suffix = scale(unit, row.spread, signed=True)
    return plain(row.spread * factor, significant(row.spread * factor, 2)) + suffix
