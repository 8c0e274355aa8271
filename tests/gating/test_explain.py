"""``--explain`` explains one check's computation from gate.json alone."""

from __future__ import annotations

from dataclasses import replace

from harness.gating.evidence import Interval
from harness.gating.explain import explain
from harness.gating.judge import judge
from tests.gating.results import evidence, result
from tests.gating.test_judge import NO_LOSS, policy, regression


def test_every_number_of_the_rule_is_told() -> None:
    steps = "\n".join(explain(result(evidence()).check("overlap")))
    assert "non_inferiority on quality.rouge_l of adapter against base: required is difference ≥ −0.01 F1" in steps
    assert "0.298 and 0.267; difference 0.031 [0.0212, 0.0409] F1 at 95 % two-sided, n = 200 dialogues" in steps
    assert "higher is better" in steps
    assert "Here L = 0.0212, U = 0.0409, m = −0.01." in steps
    assert steps.splitlines()[-1].startswith("Verdict: pass.")


def test_a_metric_that_is_better_when_lower_is_turned() -> None:
    steps = "\n".join(explain(result(evidence()).check("no-slower")))
    assert "lower is better" in steps
    assert "value −0.004, L = −0.018, U = 0.009, limit m = −0.1" in steps
    assert "a loss of 11.9 % would be detected with 80 % power" in steps


def test_what_would_decide_is_told() -> None:
    found = evidence()
    found["overlap"] = replace(found["overlap"], value=-0.005, interval=Interval(-0.015, 0.005, 0.95))
    steps = "\n".join(explain(result(found).check("overlap")))
    assert "About 800 dialogues would decide it" in steps


def test_an_error_is_told_without_a_rule() -> None:
    found = evidence()
    found["overlap"] = replace(found["overlap"], problem="It was not measured.", n=0, value=None)
    steps = explain(result(found).check("overlap"))
    assert steps[-1] == "Verdict: error. It was not measured."
    assert not any(step.startswith("Rule") for step in steps)


def test_holm_s_bound_is_told_only_where_it_was_computed() -> None:
    calm = regression(0.01, -0.02, 0.04)
    weak = regression(-0.03, -0.05, -0.01, 0.001)
    proven, unproven = judge(policy(NO_LOSS, NO_LOSS), {"c0": calm, "c1": weak})
    assert "there is no loss for Holm's procedure to prove" in "\n".join(explain(proven))
    assert "U at confidence 1 − 0.05/2 is 0.001" in "\n".join(explain(unproven))


def test_a_relative_limit_on_what_was_not_measured_is_told_as_a_share_of_the_other() -> None:
    found = evidence()
    found["no-slower"] = replace(found["no-slower"], problem="It was not measured.", n=0, value=None, scale="value")
    steps = "\n".join(explain(result(found).check("no-slower")))
    assert "required is latency.tpot_ms.p50 ≤ 1.1 × adapter of baseline main's" in steps
