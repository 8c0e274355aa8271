"""What the page says about its own statistics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from harness.store.schema import MetricSummary
from reports.explain import sights, terms
from reports.view import RunView
from tests.reports.small_view import compared, make_view


def configured(**config: Any) -> RunView:
    view = make_view(compared("quality.nll", "better", -0.1))
    return replace(view, manifest=view.manifest.model_copy(update={"config": config}))


def interval_term(view: RunView) -> str:
    return next(term.says for term in terms(view) if term.word == "95 % interval")


def test_says_how_often_this_run_resampled() -> None:
    assert "timed requests 1,000 times or" in interval_term(configured(stats={"resamples": 1000}))
    assert "timed requests or" in interval_term(configured())


def test_a_metric_of_the_runs_own_module_is_named_without_running_it() -> None:
    view = configured(metric_options={"modules": ["/nowhere/my_metrics.py"]})
    own = MetricSummary(unit="share of replies", higher_is_better=True, signature="mine", label="Asks back")
    metrics = {**view.summary.metrics, "quality.asks_back": own}
    found = sights(replace(view, summary=view.summary.model_copy(update={"metrics": metrics})))
    assert [sight.label for sight in found] == ["nll", "Asks back"]
    assert found[1].sees == "A custom metric, quality.asks_back."
