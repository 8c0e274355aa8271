"""How a baseline moved, from what its history records and, where that is nothing, from the run that is still there."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.files import read_rows, write_rows
from harness.gating.accepted import measured
from harness.gating.trend import OTHER_DIALOGUES, Trend, trend
from harness.store.acceptance import Acceptance
from harness.store.baselines import HISTORY, Baselines
from tests.gating.test_accepted import noisy
from tests.run_folders import make_run


@pytest.fixture
def store(tmp_path: Path) -> Baselines:
    """Three accepted runs: the second is better, the third worse than the one before."""
    store = Baselines(tmp_path / "baselines")
    for number, gain in enumerate((0.2, 0.3, 0.2)):
        accept(store, tmp_path / f"run-{number}", gain, seed=number)
    return store


def accept(store: Baselines, root: Path, gain: float, *, seed: int = 0, **how: Any) -> None:
    run = make_run(root, noisy(seed, gain), **how)
    store.accept(run.root, "main", "better", who="Ada", measure=measured)


def rewrite(store: Baselines, number: int, **fields: object) -> None:
    """Change a line of the history, as an earlier version or a merge of two branches would have it."""
    rows = list(read_rows(Acceptance, store.root / HISTORY))
    rows[number] = rows[number].model_copy(update=fields)
    write_rows(store.root / HISTORY, rows)


def outcomes(found: Trend, metric: str = "quality.nll") -> list[str]:
    (line,) = [line for line in found.lines if line.newest.metric == metric]
    return [point.outcome if point else "–" for point in line.points]


def test_a_regression_is_where_it_happened(store: Baselines) -> None:
    found = trend(store, "main")
    assert outcomes(found) == ["", "better", "worse"]
    assert found.changed == (None, False, False)


def test_the_trend_is_there_when_the_run_is_gone(store: Baselines) -> None:
    before = trend(store, "main")
    shutil.rmtree(store.root / "main")
    assert trend(store, "main") == before


def test_other_dialogues_are_said_and_not_compared(store: Baselines, tmp_path: Path) -> None:
    accept(store, tmp_path / "other", 0.1, ids=[f"x{k}" for k in range(60)])
    found = trend(store, "main")
    assert found.changed[-1] is True
    point = found.lines[0].points[-1]
    assert point is not None
    assert (point.change, point.obstacle) == (None, OTHER_DIALOGUES)


def test_a_line_that_did_not_replace_the_one_before_is_compared_by_its_values(store: Baselines) -> None:
    """As when two branches, each with an acceptance, were merged."""
    paired = trend(store, "main").lines[0].points[2]
    rewrite(store, 2, replaced="0" * 64)
    point = trend(store, "main").lines[0].points[2]
    assert paired is not None
    assert point is not None
    assert paired.change is not None
    assert point.change is not None
    assert point.unpaired
    assert point.change.value == pytest.approx(paired.change.value)
    assert width(point.change) > width(paired.change)


def width(change: Any) -> float:
    return float(change.high - change.low)


def test_values_measured_in_another_way_are_not_compared(store: Baselines) -> None:
    rows = list(read_rows(Acceptance, store.root / HISTORY))
    found = rows[1].measured
    assert found is not None
    other = tuple(row.model_copy(update={"signature": "another"}) for row in found.metrics)
    rewrite(store, 1, measured=found.model_copy(update={"metrics": other}))
    rewrite(store, 2, replaced=None)
    point = trend(store, "main").lines[0].points[2]
    assert point is not None
    assert (point.change, point.obstacle) == (None, "The runs measured it differently.")


def test_a_history_of_an_earlier_version_has_the_values_of_the_run_that_is_there(store: Baselines) -> None:
    for number in range(3):
        rewrite(store, number, measured=None, replaced=None, references_digest=None, prompts_digest=None)
    found = trend(store, "main")
    assert outcomes(found) == ["–", "–", ""]
    assert found.changed == (None, None, None)


def test_the_candidate_is_followed_under_a_new_name(store: Baselines, tmp_path: Path) -> None:
    values = noisy(5, 0.3)
    run = make_run(tmp_path / "renamed", {"base": values["base"], "adapter-8": values["adapter"]})
    store.accept(run.root, "main", "another name", measure=measured)
    found = trend(store, "main")
    assert outcomes(found) == ["", "better", "worse", "better"]
    assert found.lines[0].variants == ("adapter", "adapter-8")


def test_only_runs_of_that_name_count(store: Baselines, tmp_path: Path) -> None:
    run = make_run(tmp_path / "nightly", noisy(7, 0.1))
    store.accept(run.root, "nightly", "another line of runs", measure=measured)
    assert len(trend(store, "main").runs) == 3
    assert outcomes(trend(store, "nightly")) == [""]


def test_an_unknown_name_is_answered_with_the_nearest(store: Baselines) -> None:
    with pytest.raises(InputError, match="Did you mean 'main'"):
        trend(store, "mian")


@pytest.mark.parametrize("value", ["NaN", "Infinity", '"<b>"'])
def test_a_number_that_is_none_is_refused(store: Baselines, value: str) -> None:
    path = store.root / HISTORY
    text = path.read_text()
    start = text.index('"value": ') + len('"value": ')
    path.write_text(text[:start] + value + text[text.index(",", start) :])
    with pytest.raises(InputError, match="line 1: not a Acceptance"):
        trend(store, "main")
