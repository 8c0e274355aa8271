"""The gate's limits on the plots of differences, as the gate itself writes them."""

from __future__ import annotations

from typing import Any

import pytest

from harness.gating.evidence import Evidence, Interval
from harness.gating.judge import judge
from harness.gating.policy import Policy
from harness.gating.verdict import CheckResult
from reports.figures.forest import edges, margins
from tests.reports.small_view import compared, gated, make_view

BASE = {"against": {"variant": "base"}}


def judged(check: dict[str, Any], **facts: Any) -> CheckResult:
    policy = Policy.model_validate({"version": 1, "candidate": "adapter", "checks": [{"id": "c", **check}]})
    known = {"candidate": "adapter", "against": "base", "scale": "difference", "n": 200, "value": 1.0, **facts}
    evidence = Evidence(metric=check["metric"], interval=Interval(0.9, 1.1, 0.95), **known)
    return judge(policy, {"c": evidence})[0]


@pytest.mark.parametrize(
    ("check", "facts", "limits"),
    [
        ({"metric": "quality.nll", "max": -0.05}, {"higher_is_better": False}, (-0.05,)),
        (
            {"metric": "quality.rouge_l", "non_inferiority": {"margin": 0.01}},
            {"higher_is_better": True},
            (-0.01,),
        ),
        ({"metric": "safety.refusal", "no_regression": {"max_drop": 0.1}}, {"higher_is_better": False}, (0.1,)),
        (
            {"metric": "latency.tpot_ms.p50", "non_inferiority": {"margin_relative": 0.25}},
            {"higher_is_better": False, "scale": "ratio"},
            (1.25,),
        ),
        ({"metric": "quality.nll", "equivalence": {"margin": 0.02}}, {"higher_is_better": False}, (-0.02, 0.02)),
    ],
)
def test_a_limit_stands_where_the_gate_draws_it(
    check: dict[str, Any], facts: dict[str, Any], limits: tuple[float, ...]
) -> None:
    assert edges(judged({**check, **BASE}, **facts)) == pytest.approx(limits)


def test_a_limit_on_another_scale_has_no_place_among_differences() -> None:
    scaled = judged({"metric": "quality.nll", "max": 0.1, **BASE}, higher_is_better=False, scaled_other=1.1)
    assert edges(scaled) == ()


def test_a_limit_is_drawn_for_the_variant_that_it_judges() -> None:
    speed = judged(
        {"metric": "latency.tpot_ms.p50", "candidate": "merged", "non_inferiority": {"margin_relative": 0.25}, **BASE},
        candidate="merged",
        higher_is_better=False,
        scale="ratio",
    )
    rows = [
        compared("latency.tpot_ms.p50", "worse", 1.6, relative=True, variant=name) for name in ("adapter", "merged")
    ]
    view = make_view(*rows, variants=("base", "adapter", "merged"), gate=gated("pass", speed))
    assert margins(view, "latency.tpot_ms.p50") == {"merged": (1.25,)}
