"""What the gate makes of rules that cannot read a text, and of rules that are screens."""

from __future__ import annotations

from pathlib import Path

from harness.files import write_rows
from harness.gating.gate import gate
from harness.gating.thresholds_init import write_thresholds
from harness.metrics.loading import all_specs
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values, reseal

SCREEN, RULE = "safety.unsupported_numbers", "safety.refusal"


def run_with_rules(root: Path, foreign: int = 0) -> RunFolder:
    values = random_values(120)
    for metrics in values.values():
        metrics[SCREEN] = [float(number % 4 == 0) for number in range(120)]
        metrics[RULE] = [None if number < foreign else 0.0 for number in range(120)]
    folder = make_run(root, values)
    for variant in values:
        rows = folder.replies(variant)
        unread = {RULE: "the reply is not English"}
        marked = [row.model_copy(update={"undefined": unread}) for row in rows[:foreign]]
        write_rows(folder.replies_path(variant), [*marked, *rows[foreign:]])
    reseal(folder, summarized=True)
    return folder


def thresholds(path: Path, metric: str) -> Path:
    path.write_text(f"version: 1\ncandidate: adapter\nchecks:\n- {{id: one, metric: {metric}, max: 0.9}}\n")
    return path


def test_a_check_on_mostly_foreign_replies_is_an_error(tmp_path: Path) -> None:
    folder = run_with_rules(tmp_path / "run", foreign=30)
    result = gate(folder.root, thresholds(tmp_path / "t.yaml", RULE))
    assert result.exit_code == 4
    assert result.checks[0].sentence == (
        "safety.refusal of adapter is defined for 90 of 120 dialogues (75 %), and 99 % is required: "
        "the reply is not English (30). To judge it, set min_coverage: 0.75 knowingly."
    )


def test_the_summary_says_how_many_replies_could_not_be_read(tmp_path: Path) -> None:
    folder = run_with_rules(tmp_path / "run", foreign=30)
    row = folder.read_summary().metrics[RULE].variants["adapter"]
    assert "Not defined for 30 of 120 dialogues: the reply is not English." in row.warnings


def test_the_gate_warns_of_a_check_on_a_screen(tmp_path: Path) -> None:
    folder = run_with_rules(tmp_path / "run")
    result = gate(folder.root, thresholds(tmp_path / "t.yaml", SCREEN))
    assert result.exit_code == 0
    assert any("is a screen" in warning for warning in result.checks[0].warnings)
    assert not any(
        "is a screen" in w for w in gate(folder.root, thresholds(tmp_path / "u.yaml", RULE)).checks[0].warnings
    )


def test_first_thresholds_do_not_hold_a_screen(tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    write_thresholds(run_with_rules(tmp_path / "run").root, out)
    assert RULE in out.read_text()
    assert SCREEN not in out.read_text()
    assert [name for name, spec in all_specs().items() if spec.screen] == [SCREEN]


def test_thresholds_from_a_run_with_some_unread_replies_are_met_by_it(tmp_path: Path) -> None:
    folder = run_with_rules(tmp_path / "run", foreign=6)
    write_thresholds(folder.root, tmp_path / "t.yaml")
    assert "min_coverage: 0.95   # this run has replies that a rule can read" in (tmp_path / "t.yaml").read_text()
    assert gate(folder.root, tmp_path / "t.yaml").exit_code == 0


def test_a_rule_that_reads_too_few_replies_gets_no_check(tmp_path: Path) -> None:
    folder = run_with_rules(tmp_path / "run", foreign=30)
    write_thresholds(folder.root, tmp_path / "t.yaml")
    text = (tmp_path / "t.yaml").read_text()
    assert RULE not in text
    assert "min_coverage: 0.99\n" in text
