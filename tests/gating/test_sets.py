"""A check is about the set that it names: the run's, and a baseline's."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.gating.accepted import measured
from harness.gating.policy import load_policy
from harness.gating.thresholds_init import write_thresholds
from harness.store.folder import RunFolder
from tests.gating.test_gate import AGAINST, AGAINST_MAIN, GOOD, Gate
from tests.run_folders import make_run, random_values, with_sets

FORGETTING = {**GOOD, "set": "general"}  # no more than 0.05 nats lost


@pytest.fixture
def judge(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


def forgetful(root: Path, *, loss: float = 0.3) -> RunFolder:
    """Return a run whose adapter gained on the first set and lost on the second."""
    general = {
        name: {"quality.nll": metrics["quality.nll"]}
        for name, metrics in random_values(100, seed=5, gain=-loss).items()
    }
    return with_sets(make_run(root), "clinic", general=general)


def test_a_loss_on_another_set_fails_its_check_alone(judge: Gate, tmp_path: Path) -> None:
    result = judge(forgetful(tmp_path / "run"), GOOD, FORGETTING, {**GOOD, "set": "clinic"})
    assert [check.verdict for check in result.checks] == ["pass", "fail", "pass"]
    assert [check.set for check in result.checks] == [None, "general", "clinic"]
    assert [check.n for check in result.checks] == [120, 100, 120]
    assert result.checks[1].value == pytest.approx(0.3, abs=0.02)
    assert result.checks[0].value == result.checks[2].value


def test_the_set_is_named_wherever_the_check_is_told(judge: Gate, tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    judge(run, FORGETTING)
    markdown, junit = ((run.root / name).read_text() for name in ("gate.md", "gate.junit.xml"))
    assert "adapter against base on general, 100 dialogues" in markdown
    assert "nll on general rose from" in markdown
    assert "nll on general rose from" in junit


@pytest.mark.parametrize(
    ("check", "said"),
    [
        ({**GOOD, "set": "genral"}, "the run has no set 'genral'. Did you mean 'general'?"),
        ({**GOOD, "set": "x"}, "the run has no set 'x'. Known: clinic, general."),
        ({**FORGETTING, "slice": {"conditoin": "gout"}}, "no column 'conditoin'"),
    ],
)
def test_an_unknown_set_is_refused(judge: Gate, tmp_path: Path, check: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as raised:
        judge(forgetful(tmp_path / "run"), check)
    assert said in str(raised.value)
    assert "thresholds.yaml, line" in str(raised.value)


def test_a_run_without_sets_says_how_to_get_one(judge: Gate, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"the run was measured without sets\. Name 'general' under 'sets'"):
        judge(make_run(tmp_path / "run"), FORGETTING)


def test_a_set_s_own_folder_names_the_run_to_judge(judge: Gate, tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    with pytest.raises(InputError, match=rf"is one set of a run\. Gate the run itself: {run.root}\."):
        judge(run.set_folder("general"), FORGETTING)


def test_what_was_not_measured_on_a_set_is_missing(judge: Gate, tmp_path: Path) -> None:
    check = {"metric": "quality.rouge_l", "non_inferiority": {"margin": 0.01}, **AGAINST, "set": "general"}
    result = judge(forgetful(tmp_path / "run"), check)
    assert (result.exit_code, result.checks[0].verdict) == (4, "error")
    assert result.checks[0].sentence.startswith("On general: quality.rouge_l was not measured")


def test_a_set_is_paired_with_the_same_set_of_a_baseline(judge: Gate, tmp_path: Path) -> None:
    judge.accept(forgetful(tmp_path / "before"))
    now = forgetful(tmp_path / "now")
    result = judge(now, {**AGAINST_MAIN, "set": "general"}, {**AGAINST_MAIN, "set": "clinic"})
    assert [(check.verdict, check.n, check.value) for check in result.checks] == [
        ("pass", 100, 0.0),
        ("pass", 120, 0.0),
    ]


def test_a_baseline_without_the_set_is_not_compared(judge: Gate, tmp_path: Path) -> None:
    judge.accept(make_run(tmp_path / "before"))
    result = judge(forgetful(tmp_path / "now"), {**AGAINST_MAIN, "set": "general"}, {**AGAINST_MAIN, "set": "clinic"})
    assert [check.verdict for check in result.checks] == ["error", "pass"]
    assert result.checks[0].sentence == "On general: Baseline main has no set 'general'."


def test_a_run_whose_set_is_gone_is_an_error(judge: Gate, tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    shutil.rmtree(run.root / "sets")
    result = judge(run, GOOD)
    assert (result.exit_code, result.sentence) == (
        4,
        "sets/general/summary.json is missing, but existed when the run ended.",
    )


def test_first_thresholds_ask_that_nothing_is_forgotten_and_the_run_meets_them(judge: Gate, tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run", loss=0.0)
    write_thresholds(run.root, tmp_path / "first.yaml")
    checks = {check.id: check for check in load_policy(tmp_path / "first.yaml").checks}
    kept = checks["quality-nll-not-worse-on-general"]
    assert (kept.set, kept.rule, kept.against and kept.against.variant) == ("general", "non_inferiority", "base")
    result = judge(run, kept.model_dump(exclude_none=True))
    assert result.verdict == "pass"
    write_thresholds(make_run(tmp_path / "one").root, tmp_path / "one.yaml")
    assert all(check.set is None for check in load_policy(tmp_path / "one.yaml").checks)


def test_the_history_of_a_baseline_follows_each_set_that_a_check_names(judge: Gate, tmp_path: Path) -> None:
    run = forgetful(tmp_path / "run")
    judge(run, FORGETTING, {**GOOD, "set": "clinic"})
    found = [(row.set, row.metric, row.variant, row.n) for row in measured(run, None).metrics]
    assert found == [("general", "quality.nll", "adapter", 100), (None, "quality.nll", "adapter", 120)]
