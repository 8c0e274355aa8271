"""The GitHub Action's own steps, run with bash and the variables that GitHub sets."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.ci.conftest import ROOT, Checkout, accept

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())
STEPS: list[dict[str, Any]] = ACTION["runs"]["steps"]
EXPRESSION = re.compile(r"\$\{\{ *([\w.-]+) *\}\}")


@dataclass
class Job:
    """What one use of the action left: the last step's exit code, its output, its summary, its artifact."""

    code: int
    output: str
    summary: str
    artifact: Path

    @property
    def files(self) -> set[str]:
        return {path.name for path in self.artifact.iterdir()}

    @property
    def verdict(self) -> dict[str, Any]:
        return dict(json.loads((self.artifact / "gate.json").read_text()))


def use(checkout: Checkout, *, base_ref: str = "main", **given: str) -> Job:
    """Run every ``run:`` step of the action until one fails."""
    temp = checkout.root.parent / "temp"
    temp.mkdir()
    files = {name: temp / name for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    for file in files.values():
        file.touch()
    inputs = {name: str(one.get("default", "")) for name, one in ACTION["inputs"].items()}
    inputs |= {"run": "runs/today", "thresholds": "thresholds.yaml", **given}
    known = {f"inputs.{name}": value for name, value in inputs.items()}
    ours = {"RUNNER_TEMP": str(temp), "GITHUB_ACTION_PATH": str(ROOT), "GITHUB_BASE_REF": base_ref}
    code, output = 0, ""
    for step in STEPS:
        if "run" not in step:
            continue
        environment = {key: filled(value, known) for key, value in step.get("env", {}).items()}
        done = checkout.bash(step["run"], **ours, **{name: str(file) for name, file in files.items()}, **environment)
        code, output = done.returncode, output + done.stdout + done.stderr
        if "id" in step:
            lines = files["GITHUB_OUTPUT"].read_text().splitlines()
            known |= {
                f"steps.{step['id']}.outputs.{key}": value for key, _, value in (one.partition("=") for one in lines)
            }
        if code:
            break
    return Job(code, output, files["GITHUB_STEP_SUMMARY"].read_text(), temp / "gate")


def filled(text: str, known: dict[str, str]) -> str:
    """Return the text with GitHub's expressions replaced by their values."""
    return EXPRESSION.sub(lambda found: known[found[1]], text)


def test_the_run_is_compared_with_the_target_branch(checkout: Checkout) -> None:
    checkout.accept()
    job = use(checkout)
    assert job.code == 0, job.output
    assert job.verdict["verdict"] == "pass"
    assert [check["id"] for check in job.verdict["checks"]] == ["no-nonsense", "no-worse"]
    assert job.verdict["baselines"].keys() == {"main"}
    assert "Gate: pass" in job.summary
    assert job.files == {"gate.json", "gate.md", "gate.junit.xml", "report.html"}


def test_a_worse_run_fails_the_job_and_says_why(checkout: Checkout) -> None:
    checkout.accept(better_by=0.4)
    job = use(checkout)
    assert job.code == 1
    assert "no-worse" in job.summary.split("### Not passed")[1]
    assert "report.html" in job.files


def test_the_first_pull_request_has_no_baseline(checkout: Checkout) -> None:
    job = use(checkout)
    assert job.code == 0, job.output
    assert job.verdict["verdict"] == "pass"
    assert [check["id"] for check in job.verdict["checks"]] == ["no-nonsense"]
    assert "Left out, because there is no baseline yet: no-worse" in job.summary.replace("\\", "")


def test_a_baseline_that_the_change_itself_brings_does_not_count(checkout: Checkout) -> None:
    accept(checkout.root.parent / "own", checkout.root)
    assert use(checkout).verdict["baselines"] == {}


def test_a_push_is_compared_with_its_own_commit(checkout: Checkout) -> None:
    checkout.accept()
    checkout.bash("git pull --quiet origin main")
    assert use(checkout, base_ref="").verdict["baselines"].keys() == {"main"}


def test_a_wrong_thresholds_file_ends_with_its_sentence(checkout: Checkout) -> None:
    job = use(checkout, thresholds="missing.yaml")
    assert job.code == 2
    assert job.summary.startswith("Error: ")
    assert "missing.yaml" in job.summary


def test_the_summary_says_what_the_change_loosens(checkout: Checkout) -> None:
    path = checkout.root / "thresholds.yaml"
    path.write_text(path.read_text().replace("max: 100", "max: 200"))
    said = use(checkout).summary.split("### What the change does to the thresholds")[1]
    assert "LOOSENED" in said
    assert "no-nonsense" in said


@pytest.mark.parametrize(("report", "has_text"), [("redacted", False), ("full", True)])
def test_the_page_has_dialogues_only_if_asked(checkout: Checkout, report: str, has_text: bool) -> None:
    prompt = json.loads((checkout.run / "dialogues.jsonl").read_text().splitlines()[0])["prompt"]
    page = (use(checkout, report=report).artifact / "report.html").read_text()
    assert (prompt in page) is has_text


def test_no_page_if_none_is_wanted(checkout: Checkout) -> None:
    assert use(checkout, report="none").files == {"gate.json", "gate.md", "gate.junit.xml"}


def test_the_candidate_is_the_one_given(checkout: Checkout) -> None:
    assert use(checkout, candidate="merged").verdict["candidate"] == "merged"


def test_the_action_installs_its_own_checkout_with_the_pinned_versions(checkout: Checkout) -> None:
    use(checkout)
    assert checkout.installed == f"install --quiet -c {ROOT}/constraints.txt {ROOT}\n"


def test_no_input_is_pasted_into_a_script() -> None:
    assert not [step["name"] for step in STEPS if "run" in step and "${{" in step["run"]]
