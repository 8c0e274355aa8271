"""The table of merge strategies: every fidelity metric that was measured has its row, with its interval."""

from __future__ import annotations

from benchmarks.merge_strategies import ROWS, STRATEGIES, cell, row, table
from harness.metrics.measured import FIDELITY


def test_every_fidelity_metric_has_a_row() -> None:
    assert {spec.name for spec in FIDELITY} == set(ROWS) - {"quality.nll"}


def test_the_table_shows_what_was_measured_with_its_interval_and_nothing_else() -> None:
    estimate = {"value": 0.25, "low": 0.125, "high": 0.5, "n": 7}
    summary = {
        "quality.nll": {"variants": {"base": estimate, "merged-original": estimate}},
        "fidelity.identical_replies": {"variants": {"merged-original": {**estimate, "low": None, "high": None}}},
    }
    kept = {"mean_kept": 0.9, "mean_relative_error": 0.1, "worst_relative_error": 0.2}
    strategies = {name: {**row(summary, f"merged-{name}"), **kept} for name in STRATEGIES}
    sized = [{"delta_to_weight": 0.01, "strategy": "original", **kept}]
    text = table({"variants": {"base": row(summary, "base")}, "strategies": strategies, "by_size": sized})
    assert text.splitlines() == [
        "| | base | dequantized | original | in-place-4bit |",
        "|---|---|---|---|---|",
        "| nll, nats a token | 0.2500 [0.1250, 0.5000] | – | 0.2500 [0.1250, 0.5000] | – |",
        "| identical greedy replies | – | – | 0.2500 | – |",
        "| ΔW kept | – | 90.0% | 90.0% | 90.0% |",
        "| error of ΔW, mean | – | 10.0% | 10.0% | 10.0% |",
        "| error of ΔW, worst layer | – | 20.0% | 20.0% | 20.0% |",
        "",
        "| ΔW, of the weights | strategy | ΔW kept | error of ΔW |",
        "|---|---|---|---|",
        "| 1.00% | original | 90.0% | 10.0% |",
    ]


def test_a_bound_without_its_other_end_is_shown_as_one() -> None:
    assert cell({"value": 0.25, "low": 0.125, "high": None, "n": 7}) == "0.2500 [0.1250, –]"
