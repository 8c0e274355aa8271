"""What an acceptance records: gated metrics as the run has them, and their changes as the gate compares two runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.gating.accepted import measured
from harness.gating.gate import gate, side_of
from harness.results.analysis import Analysis
from harness.store.folder import RunFolder
from tests.run_folders import Values, make_run, random_values, with_sets

THRESHOLDS = """
version: 1
candidate: adapter
checks:
  - {id: learned, metric: quality.nll, max: -0.05, against: {variant: base}}
  - {id: again, metric: quality.nll, min: 0}
  - {id: merged, metric: quality.rouge_l, candidate: merged, min: 0.1}
  - {id: sliced, metric: quality.empty, max: 0.5, slice: {source: a}}
"""


def noisy(seed: int, gain: float) -> Values:
    """Return values over the same dialogues as any other ``gain``, but not exactly so much better in each."""
    noise = random_values(60, seed=seed + 100)["base"]["quality.nll"]
    values = random_values(60, seed=1, gain=gain)
    for metrics in values.values():
        metrics["quality.nll"] = [
            (one or 0.0) + 0.1 * ((other or 0.0) - 2.5)
            for one, other in zip(metrics["quality.nll"], noise, strict=True)
        ]
    return values


@pytest.fixture
def pair(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    columns = {"source": ["a", "b"] * 30}
    first = make_run(tmp_path / "first", noisy(1, 0.3), columns=columns)
    second = make_run(tmp_path / "second", noisy(2, 0.2), columns=columns)
    (tmp_path / "t.yaml").write_text(THRESHOLDS)
    for run in (first, second):
        gate(run.root, tmp_path / "t.yaml")
    return first, second


def test_each_gated_metric_is_recorded_once_as_the_summary_has_it(pair: tuple[RunFolder, RunFolder]) -> None:
    first, _ = pair
    found = measured(first, None)
    assert found.candidate == "adapter"
    assert [(row.metric, row.variant) for row in found.metrics] == [
        ("quality.nll", "adapter"),
        ("quality.rouge_l", "merged"),
    ]
    summary = first.read_summary().metrics["quality.nll"]
    estimate, row = summary.variants["adapter"], found.metrics[0]
    assert (row.value, row.low, row.high, row.n) == (estimate.value, estimate.low, estimate.high, 60)
    assert (row.signature, row.unit, row.higher_is_better) == (summary.signature, "nats/token", False)
    assert row.change is None


def test_the_change_is_the_paired_difference_of_the_two_runs(pair: tuple[RunFolder, RunFolder]) -> None:
    first, second = pair
    change = measured(second, first).metrics[0].change
    assert change is not None
    registry = side_of(second, second.read_manifest()).registry
    sides = [Analysis(run, registry=registry, resamples=1000, seed=42) for run in (second, first)]
    paired = sides[0].difference("quality.nll", "adapter", "adapter", other=sides[1])
    assert (change.value, change.low, change.high) == (paired.value, paired.low, paired.high)
    assert change.outcome == "worse"


def test_a_candidate_of_another_name_is_compared_with_the_candidate_before(tmp_path: Path) -> None:
    before = make_run(tmp_path / "before", noisy(1, 0.3))
    values = noisy(2, 0.2)
    after = make_run(tmp_path / "after", {"base": values["base"], "adapter-8": values["adapter"]})
    found = measured(after, before)
    assert found.candidate == "adapter-8"
    nll = next(row for row in found.metrics if row.metric == "quality.nll")
    assert nll.change is not None
    assert nll.change.outcome == "worse"


def test_without_a_gate_the_metrics_that_thresholds_init_compares_are_recorded(tmp_path: Path) -> None:
    values = random_values(30)
    run = make_run(tmp_path / "run", values, tokens_ms={name: [20.0, 21.0] * 15 for name in values})
    assert [row.metric for row in measured(run, None).metrics] == [
        "quality.nll",
        "quality.rouge_l",
        "latency.ttft_ms.p50",
        "latency.tpot_ms.p50",
    ]


@pytest.mark.parametrize(
    ("other", "why"),
    [
        ({"template_digest": "2" * 64}, "prompt template"),
        ({"generation": {"max_new_tokens": 8}}, "decoding"),
        ({"ids": [f"x{k}" for k in range(60)]}, "dialogues differ"),
    ],
)
def test_runs_that_the_gate_would_not_compare_have_no_change(
    pair: tuple[RunFolder, RunFolder], tmp_path: Path, other: dict[str, object], why: str
) -> None:
    before = make_run(tmp_path / "other", noisy(1, 0.3), **other)  # type: ignore[arg-type]
    change = measured(pair[1], before).metrics[0].change
    assert change is not None
    assert change.value is None
    assert why in change.obstacle


def test_a_damaged_run_may_be_replaced(pair: tuple[RunFolder, RunFolder]) -> None:
    first, second = pair
    first.manifest_path.write_text("{")
    change = measured(second, first).metrics[0].change
    assert change is not None
    assert "damaged" in change.obstacle


def test_a_check_on_another_set_is_recorded_with_the_values_of_that_set(tmp_path: Path) -> None:
    runs = [
        with_sets(make_run(tmp_path / name, noisy(1, 0.3)), "clinic", general=noisy(seed, gain))
        for name, seed, gain in (("first", 2, 0.1), ("second", 3, -0.2))
    ]
    policy = tmp_path / "t.yaml"
    policy.write_text(
        "version: 1\ncandidate: adapter\nchecks:\n  - {id: kept, metric: quality.nll, min: 0, set: general}\n"
    )
    for run in runs:
        gate(run.root, policy)
    (row,) = measured(runs[1], runs[0]).metrics
    general = runs[1].set_folder("general").read_summary().metrics["quality.nll"].variants["adapter"]
    assert (row.set, row.value, row.n) == ("general", general.value, general.n)
    assert row.change is not None
    assert row.change.value == pytest.approx(0.3, abs=0.1)
    assert row.change.outcome == "worse"


def test_a_set_that_the_run_before_lacks_is_said(tmp_path: Path) -> None:
    before = make_run(tmp_path / "first", noisy(1, 0.3))
    run = with_sets(make_run(tmp_path / "second", noisy(1, 0.3)), "clinic", general=noisy(2, 0.1))
    policy = tmp_path / "t.yaml"
    policy.write_text(
        "version: 1\ncandidate: adapter\nchecks:\n  - {id: kept, metric: quality.nll, min: 0, set: general}\n"
    )
    gate(run.root, policy)
    (row,) = measured(run, before).metrics
    assert row.change is not None
    assert row.change.obstacle == "The run before has no set 'general'."


def test_a_set_of_the_run_before_is_told_by_the_name_of_that_run(tmp_path: Path) -> None:
    before = with_sets(make_run(tmp_path / "main", noisy(1, 0.3)), "clinic", general=random_values(50))
    run = with_sets(make_run(tmp_path / "run", noisy(1, 0.3)), "clinic", general=random_values(60))
    policy = tmp_path / "t.yaml"
    policy.write_text(
        "version: 1\ncandidate: adapter\nchecks:\n  - {id: kept, metric: quality.nll, min: 0, set: general}\n"
    )
    gate(run.root, policy)
    (row,) = measured(run, before).metrics
    assert row.change is not None
    assert row.change.obstacle.startswith("The run's dialogues differ from those of baseline main: 10 ")
