"""What docs/gate.md shows is true: its thresholds load, its workflow is YAML, and every rule is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from harness.gating.markdown import MOST_CHARACTERS
from harness.gating.policy import RULES, load_policy
from harness.gating.verdict import EXIT_CODES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```yaml\n(.*?)```", TEXT, flags=re.DOTALL)


def test_the_thresholds_shown_are_understood(tmp_path: Path) -> None:
    path = tmp_path / "thresholds.yaml"
    path.write_text(BLOCKS[0], encoding="utf-8")
    assert load_policy(path).checks[0].id == "learned-the-task"


def test_the_workflow_gates_what_it_measured() -> None:
    workflow = yaml.safe_load(BLOCKS[1])
    measure, gated = (workflow["jobs"][name]["steps"] for name in ("measure", "gate"))
    assert workflow["jobs"]["gate"]["needs"] == "measure"
    assert any("harness run" in step.get("run", "") and "--out runs/today" in step["run"] for step in measure)
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    given = gated[-1]["with"]
    assert given["run"] == "runs/today"
    assert given.keys() <= action["inputs"].keys()
    assert {name for name, one in action["inputs"].items() if one.get("required")} <= given.keys()


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_explained(rule: str) -> None:
    assert f"`{rule}: " in TEXT


def test_exit_codes_and_lengths_are_those_of_the_code() -> None:
    for verdict, code in EXIT_CODES.items():
        assert f"| {code} | {verdict} |" in TEXT
    assert f"{MOST_CHARACTERS:,} characters" in TEXT
