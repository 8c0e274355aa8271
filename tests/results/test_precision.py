"""What is said of the precision reached within a budget."""

from __future__ import annotations

from typing import Any

from harness.results.precision import is_short, of_condition, sentences


def question(workload: str = "fixed", batch: int = 1, timed: int = 16, **reached: float | None) -> dict[str, Any]:
    pairs = {name.replace("_", "/"): width for name, width in reached.items()}
    facts = {"engine": "compiled", "batch": batch, "workload": workload, "prompt_tokens": None, "needed": 16}
    return {**facts, "timed": timed, "reached": pairs}


def facts(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"asked": 0.02, "budget_seconds": 300.0, "spent_seconds": 290.0, "questions": list(questions)}


def test_all_that_is_precise_enough_takes_one_sentence() -> None:
    known = facts(question(merged_adapter=0.004, merged_base=0.01), question(batch=4, merged_adapter=0.02))
    assert not is_short(known)
    assert sentences(known) == [
        "batch 1 on the compiled engine: ±1 % reached, ±2 % asked for "
        "(merged/adapter ±0.4 %, merged/base ±1 %; 16 requests)."
    ]


def test_what_is_less_precise_or_not_timed_is_named() -> None:
    known = facts(
        question(merged_adapter=0.034),
        question(batch=4, merged_adapter=0.05),
        question(batch=16, timed=2, merged_adapter=None),
        question("natural", timed=0),
    )
    assert is_short(known)
    assert sentences(known) == [
        "batch 1 on the compiled engine: ±3.4 % reached, ±2 % asked for (merged/adapter ±3.4 %; 16 requests).",
        "Within 5 minutes, less precise than ±2 %: batch 4 on the compiled engine (±5 %), "
        "batch 16 on the compiled engine (no interval).",
        "Not timed within 5 minutes: natural replies on the compiled engine. Raise latency.budget_minutes for these.",
    ]


def test_the_page_says_it_beside_the_chart_of_that_condition() -> None:
    known = facts(question(merged_adapter=0.004), question("natural"), question(batch=4, timed=6, merged_adapter=0.03))
    said = of_condition(known, "compiled", 4)
    assert said == (" Ratios of variants at batch 4: ±3 % reached, ±2 % asked for (merged/adapter ±3 %; 6 batches).")
    assert of_condition(known, "eager", 4) == ""
    assert of_condition(None, "compiled", 1) == ""
