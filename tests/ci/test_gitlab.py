"""The GitLab template's scripts, run with bash and the variables that GitLab sets."""

from __future__ import annotations

import json
import subprocess

import yaml

from tests.ci.conftest import ROOT, Checkout

JOB = yaml.safe_load((ROOT / "ci" / "gitlab.yml").read_text())[".harness-gate"]


def judged(checkout: Checkout, **variables: str) -> subprocess.CompletedProcess[str]:
    given = {"HARNESS_RUN": "runs/today", "HARNESS_THRESHOLDS": "thresholds.yaml"}
    merge = {"CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main"}
    script = "\n".join([*JOB["before_script"], *JOB["script"]])
    return checkout.bash(script, **{**JOB["variables"], **given, **merge, **variables})


def test_the_run_is_compared_with_the_target_branch(checkout: Checkout) -> None:
    checkout.accept()
    done = judged(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    verdict = json.loads((checkout.root / "gate" / "gate.json").read_text())
    assert verdict["baselines"].keys() == {"main"}
    assert checkout.installed == "install --quiet medical-dialogue-harness\n"


def test_a_worse_run_fails_the_job(checkout: Checkout) -> None:
    checkout.accept(better_by=0.4)
    assert judged(checkout).returncode == 1


def test_the_first_merge_request_has_no_baseline(checkout: Checkout) -> None:
    done = judged(checkout)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Left out, because there is no baseline yet: no-worse" in done.stdout


def test_every_artifact_is_written(checkout: Checkout) -> None:
    judged(checkout)
    assert (checkout.root / JOB["artifacts"]["reports"]["junit"]).is_file()
    names = {path.name for path in (checkout.root / "gate").iterdir()}
    assert names == {"gate.json", "gate.md", "gate.junit.xml", "report.html"}


def test_a_wrong_thresholds_file_ends_with_its_sentence(checkout: Checkout) -> None:
    done = judged(checkout, HARNESS_THRESHOLDS="missing.yaml")
    assert done.returncode == 2
    assert "missing.yaml" in done.stderr
