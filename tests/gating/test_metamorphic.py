"""What must hold whatever the numbers are: swapped sides, permuted rows, identical runs, tighter limits."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import write_rows
from harness.gating.evidence import Evidence, Interval
from harness.gating.gate import gate
from harness.gating.judge import judge
from harness.gating.policy import Policy
from harness.gating.verdict import CheckResult
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values, reseal

TOKENS = {"base": [5 + 0.01 * i for i in range(16)], "adapter": [6 + 0.013 * i for i in range(16)]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    values = random_values(variants=("base", "adapter"))
    return make_run(tmp_path_factory.mktemp("metamorphic") / "run", values, tokens_ms=TOKENS)


def checks(run: RunFolder, path: Path, candidate: str, against: str, **more: Any) -> tuple[CheckResult, ...]:
    path = path / "thresholds.yaml"
    path.write_text(
        f"""
version: 1
candidate: {candidate}
checks:
  - {{id: nll, metric: quality.nll, no_regression: {{max_drop: 0.01}}, against: {against}}}
  - {{id: rouge, metric: quality.rouge_l, non_inferiority: {{margin: 0.01}}, against: {against}}}
  - {{id: empty, metric: quality.empty, equivalence: {{margin: 0.1}}, against: {against}}}
  - id: speed
    metric: latency.tpot_ms.p50
    no_regression: {{max_relative_increase: 0.1}}
    against: {against}
    min_samples: 8
"""
    )
    return gate(run.root, path, write=False, **more).checks


def test_swapping_candidate_and_reference_turns_every_sign(run: RunFolder, tmp_path: Path) -> None:
    there = checks(run, tmp_path, "adapter", "{variant: base}")
    back = checks(run, tmp_path, "base", "{variant: adapter}")
    for one, two in zip(there, back, strict=True):
        assert one.value is not None
        assert two.value is not None
        assert one.low is not None
        assert two.high is not None
        if one.scale == "ratio":
            assert (one.value * two.value, one.low * two.high) == pytest.approx((1, 1))
        else:
            assert one.value == pytest.approx(-two.value)
            # BCa's correction is taken from the same draws turned round.
            assert one.low == pytest.approx(-two.high, abs=2e-3)
    assert [check.verdict for check in there] == ["pass", "pass", "pass", "fail"]
    assert [check.verdict for check in back] == ["fail", "fail", "pass", "pass"]


def test_the_order_of_rows_does_not_matter(run: RunFolder, tmp_path: Path) -> None:
    before = checks(run, tmp_path, "adapter", "{variant: base}")
    values = random_values(variants=("base", "adapter"))
    other = make_run(tmp_path / "permuted", values, tokens_ms=TOKENS)
    shuffle = random.Random(1)
    dialogues = other.dialogues()
    shuffle.shuffle(dialogues)
    write_rows(other.dialogues_path, dialogues)
    for variant in values:
        rows = other.replies(variant)
        shuffle.shuffle(rows)
        write_rows(other.replies_path(variant), rows)
    assert checks(reseal(other, summarized=True), tmp_path, "adapter", "{variant: base}") == before


def test_a_run_differs_from_itself_by_nothing(run: RunFolder, tmp_path: Path) -> None:
    same = checks(run, tmp_path, "adapter", "{baseline: main}", baseline=run.root)
    assert [check.value for check in same] == [0, 0, 0, 1]
    # That no reply differs shows for 120 dialogues that at most 3 % of others do: more than a margin of 0.01 of ROUGE.
    assert [check.verdict for check in same] == ["pass", "inconclusive", "pass", "pass"]
    assert same[1].needed_n is not None
    assert same[1].needed_n > 120


def limit_checks(value: float, width: float, limit: float, rule: str, higher: bool) -> str:
    said: dict[str, Any] = {"id": "a", "metric": "m"}
    compared = rule in ("non_inferiority", "no_regression", "equivalence")
    if rule in ("min", "max"):
        said[rule] = limit
    else:
        said |= {rule: {"max_drop" if rule == "no_regression" else "margin": limit}, "against": {"variant": "base"}}
    policy = Policy.model_validate({"version": 1, "checks": [said]})
    scale = "difference" if compared else "value"
    interval = Interval(value - width, value + width, 0.95)
    found = Evidence("m", "adapter", higher_is_better=higher, scale=scale, value=value, interval=interval, n=200)
    return judge(policy, {"a": found})[0].verdict


NUMBERS = st.floats(-10, 10, allow_nan=False)


@settings(deadline=None)
@given(NUMBERS, st.floats(0, 5), st.floats(0.001, 5), st.floats(0, 5), st.booleans(),
       st.sampled_from(["min", "max", "non_inferiority", "no_regression", "equivalence"]))  # fmt: skip
def test_a_tighter_limit_never_turns_fail_into_pass(
    value: float, width: float, loose: float, step: float, higher: bool, rule: str
) -> None:
    limit = loose + step if rule == "min" else loose - step if rule == "max" else max(loose - step, 0.0005)
    order = ["fail", "inconclusive", "pass"]
    before = limit_checks(value, width, loose, rule, higher)
    after = limit_checks(value, width, limit, rule, higher)
    assert order.index(after) <= order.index(before)


@settings(deadline=None)
@given(NUMBERS, st.floats(0, 5), st.floats(0, 5), st.booleans())
def test_turning_the_metric_and_its_values_changes_nothing(
    value: float, width: float, margin: float, higher: bool
) -> None:
    for rule in ("non_inferiority", "no_regression"):
        assert limit_checks(value, width, margin, rule, higher) == limit_checks(-value, width, margin, rule, not higher)


@settings(deadline=None)
@given(NUMBERS, st.floats(0, 5), st.floats(0, 1), NUMBERS, st.sampled_from(["min", "max"]))
def test_a_wider_interval_never_decides_more(value: float, width: float, wider: float, limit: float, rule: str) -> None:
    before = limit_checks(value, width, limit, rule, True)
    after = limit_checks(value, width + wider, limit, rule, True)
    assert after in (before, "inconclusive")
