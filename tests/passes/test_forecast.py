"""The forecast: what is left times what a trial took, and silence where nothing is left."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.config import GenerationConfig
from harness.passes import forecast, generation, scoring
from harness.passes.forecast import Left, Trial
from harness.variants.model import Variant
from tests.backends.local.small_models import context, dialogues

Trio = tuple[Variant, Variant, Variant]
TEXT = ("scoring", "generation")


def test_each_pass_takes_what_is_left_of_it_times_what_the_trial_took() -> None:
    left = Left(scoring=300, riding=200, replies=100, generation=12_800, fidelity=100, latency=400)
    found = left.seconds(Trial(scoring=0.5, riding=0.2, begun=0.3, together=0.01, alone=0.1))
    assert found == pytest.approx({"scoring": 190.0, "generation": 158.0, "fidelity": 100.0, "latency": 40.0})


def test_a_pass_with_nothing_left_is_not_named() -> None:
    assert "latency" not in forecast.sentence(
        Left(4, 0, 0, 0, 0, 0).seconds(Trial(10.0, 1.0, 1.0, 1.0, 1.0)), "adapter"
    )


def test_the_sentence_names_total_parts_and_what_was_tried() -> None:
    said = forecast.sentence({"scoring": 20.0, "generation": 90.0}, "adapter")
    assert said == (
        "About 1 min 50 s ahead at full reply length, by a short trial of adapter "
        "(scoring 20 s, generation 1 min 30 s; memory not counted)."
    )


def test_what_has_a_record_is_not_counted_again(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio, dialogues(6), passes=TEXT, generation=GenerationConfig(max_new_tokens=5))
    assert forecast.what_is_left(ctx) == Left(scoring=0, riding=18, replies=18, generation=90, fidelity=0, latency=0)
    scoring.run(ctx)
    assert forecast.what_is_left(ctx) == Left(scoring=0, riding=0, replies=18, generation=90, fidelity=0, latency=0)
    generation.run(ctx)
    assert forecast.what_is_left(ctx) == Left(0, 0, 0, 0, 0, 0)


@pytest.mark.parametrize(("passes", "left"), [(("scoring",), Left(4, 0, 0, 0, 0, 0)), (TEXT, Left(0, 4, 4, 20, 0, 0))])
def test_scoring_rides_only_where_replies_are_made_too(
    tmp_path: Path, trio: Trio, passes: tuple[str, ...], left: Left
) -> None:
    ctx = context(tmp_path, trio[:1], dialogues(4), passes=passes, generation=GenerationConfig(max_new_tokens=5))
    assert forecast.what_is_left(ctx) == left


def test_a_trial_measures_every_kind_of_work(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio, dialogues(6), passes=TEXT)
    with ctx.pool.use(trio[0]) as loaded:
        trial = forecast.try_out(loaded, ctx.dialogues)
    assert trial is not None
    assert min(trial.scoring, trial.riding, trial.begun, trial.alone) > 0
    assert trial.together >= 0  # a difference of two timings
    with ctx.pool.use(trio[0]) as loaded:
        prompts = sum(len(loaded.tokenizer(row.prompt)["input_ids"]) for row in ctx.dialogues)
        whole = sum(len(loaded.tokenizer(row.prompt + str(row.reference))["input_ids"]) for row in ctx.dialogues)
    assert trial.riding == pytest.approx(trial.scoring * (whole - prompts) / whole)


def test_no_prompt_that_fits_means_no_trial(tmp_path: Path, trio: Trio) -> None:
    rows = tuple(row.model_copy(update={"prompt": "pain " * 5000}) for row in dialogues(2))
    ctx = context(tmp_path, trio, rows, passes=TEXT)
    with ctx.pool.use(trio[0]) as loaded:
        assert forecast.try_out(loaded, ctx.dialogues) is None
