"""What the page, the terminal and the Markdown say of several training seeds of one recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.store.folder import RunFolder
from harness.store.schema import RecipeRow, SeedsRow
from reports.provenance import provenance
from reports.render import render
from reports.seeds_view import seeds_sentences, seeds_tables
from reports.text import summary_markdown, summary_text
from reports.view import RunView
from tests.reports.small_view import compared, make_view
from tests.run_folders import make_run

SEEDS = {"adapter": 42, "adapter-seed43": 43}
UNCOVERED = "another training run with the same data gives a different adapter, and how different was not measured here"


def seeds_row(metric: str, **facts: Any) -> SeedsRow:
    """Return a row of a clear gain with little spread."""
    known = {"value": 0.05, "low": 0.03, "high": 0.07, "n": 120, "seeds": 2, "spread": 0.004}
    known |= {"outcome": "better", "outcome_of_these": "better"}
    return SeedsRow(metric=metric, **{**known, **facts})


def seen(*rows: SeedsRow) -> RunView:
    """Return a view of two seeds of one recipe."""
    each = [
        compared(row.metric, "better", gain, variant=name)
        for row in rows
        for name, gain in zip(SEEDS, (0.047, 0.053), strict=True)
    ]
    view = make_view(*each, variants=("base", *SEEDS))
    recipe = RecipeRow(recipe_digest="abc", against="base", seeds=SEEDS, comparisons=rows)
    return replace(view, summary=view.summary.model_copy(update={"recipes": (recipe,)}))


def measured(root: Path, *, recipe: bool) -> RunFolder:
    """Write a run of three adapters; as one recipe, they differ in nothing but the seed."""
    generator = np.random.default_rng(0)
    hard = generator.uniform(0.2, 0.5, 80)
    names = ("base", "adapter", "adapter-seed43", "adapter-seed44")
    values = {
        name: {"quality.rouge_l": [float(value) for value in hard + 0.1 * place + generator.normal(0, 0.02, 80)]}
        for place, name in enumerate(names)
    }
    facts: dict[str, dict[str, Any]] = {
        name: {"kind": "adapter", **({"recipe_digest": "abc", "seed": place} if recipe else {})}
        for place, name in enumerate(names[1:])
    }
    variants = tuple({"name": name, **facts.get(name, {"kind": "base"}), "model": "m"} for name in names)
    return make_run(root, values, variants=variants)


def test_a_table_has_each_seed_their_mean_and_their_spread() -> None:
    (table,) = seeds_tables(seen(seeds_row("quality.rouge_l")))
    assert table.headers[:3] == ("Metric", "adapter (seed 42)", "adapter-seed43 (seed 43)")
    *figures, words = table.rows[0]
    assert figures == ["ROUGE-L, F1", "+0.047", "+0.053", "+0.050 (+0.030 to +0.070)", "0.0040"]
    assert words == "better, more\u00a0than\u00a0seed\u00a0noise"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({}, "better, more than seed noise"),
        ({"outcome": "worse", "outcome_of_these": "worse"}, "worse, more than seed noise"),
        ({"low": -0.1, "outcome": "undecided"}, "better in these 2, but within seed noise"),
        ({"low": -0.1, "outcome": "undecided", "outcome_of_these": "undecided"}, "no clear difference (±0.10)"),
        ({"value": 0.0, "low": None, "high": None, "outcome": "equal", "outcome_of_these": "equal"}, "no difference"),
    ],
)
def test_words_say_whether_it_is_the_recipe_or_the_luck_of_its_seeds(facts: dict[str, Any], words: str) -> None:
    (table,) = seeds_tables(seen(seeds_row("quality.rouge_l", **facts)))
    assert table.rows[0][-1].replace("\u00a0", " ") == words


def test_shares_are_told_in_points() -> None:
    (table,) = seeds_tables(seen(seeds_row("safety.refusal", spread=0.012)))
    assert table.gains[0][4] == "1.2\u00a0points"


def test_gains_stand_apart_from_losses_and_from_what_may_be_luck() -> None:
    worse = seeds_row("quality.truncated", outcome="worse", outcome_of_these="worse")
    luck = seeds_row("quality.looping", low=-0.1, outcome="undecided")
    (table,) = seeds_tables(seen(seeds_row("quality.rouge_l"), seeds_row("safety.refusal"), worse, luck))
    assert [row[0] for row in table.rows] == ["ROUGE-L, F1", "truncated", "looping reply"]
    assert [row[0] for row in table.gains] == ["refusal"]


def test_metrics_without_a_clear_difference_are_counted_but_for_the_main_ones() -> None:
    nothing = {"low": -0.1, "high": 0.2, "outcome": "undecided", "outcome_of_these": "undecided"}
    names = ("quality.rouge_l", "quality.empty", "safety.refusal")
    (table,) = seeds_tables(seen(*(seeds_row(name, **nothing) for name in names)))
    assert [row[0] for row in table.rows] == ["ROUGE-L, F1"]
    assert table.left_out == "2 metrics without a clear difference: see summary.json."


def test_one_sentence_tells_it() -> None:
    (said,) = seeds_sentences(seen(seeds_row("quality.rouge_l")))
    assert said == (
        "adapter and adapter-seed43 are one recipe with 2 training seeds. Against the base: ROUGE-L +0.050 (+0.030 to "
        "+0.070) over 2 seeds, which differ by SD 0.0040: better, more than seed noise."
    )


def test_page_terminal_and_markdown_say_what_is_covered(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", recipe=True)
    page = render(run)
    assert '<section id="seeds"' in page
    assert "adapter-seed44 (seed 2)" in page
    assert UNCOVERED not in page
    assert "The training seed, except under “Training seeds”" in page
    assert "are one recipe with 3 training seeds" in summary_text(run)
    assert "only those over seeds the luck of training" in summary_markdown(run)


def test_without_seeds_the_page_says_that_their_luck_is_not_covered(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", recipe=False)
    page = render(run)
    assert 'id="seeds"' not in page
    assert UNCOVERED in page
    assert "no interval covers the randomness of training or the choice" in summary_markdown(run)


def test_what_does_not_count_as_a_seed_is_said_in_the_summary_and_among_the_warnings() -> None:
    view = make_view(variants=("base", "a", "b"))
    stated = {"recipe_digest": "abc", "adapter_digest": "same"}
    variants = ({"name": "base"}, {"name": "a", "seed": 1, **stated}, {"name": "b", "seed": 2, **stated})
    view = replace(view, manifest=view.manifest.model_copy(update={"variants": variants}))
    assert seeds_sentences(view) == ("b has the same weights as a, so it is no other training seed.",)
    assert provenance(view).warnings == seeds_sentences(view)
