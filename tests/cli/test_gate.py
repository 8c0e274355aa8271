"""The commands as a person types them: exit codes, the table, and one sentence where something is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.cli.app import main
from harness.gating import outputs
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values

THRESHOLDS = """
version: 1
candidate: adapter
checks:
  - {id: learned, metric: quality.nll, max: -0.05, against: {variant: base}}
  - {id: overlap, metric: quality.rouge_l, min: 0.99, severity: warn}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return make_run(tmp_path_factory.mktemp("cli") / "run", random_values(120))


@pytest.fixture
def thresholds(tmp_path: Path) -> str:
    path = tmp_path / "thresholds.yaml"
    path.write_text(THRESHOLDS)
    return str(path)


@pytest.mark.parametrize("columns", [60, 80])
def test_gate_breaks_no_word_in_a_narrow_terminal(
    run: RunFolder, tmp_path: Path, columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    path = tmp_path / "t.yaml"
    path.write_text(THRESHOLDS.replace("overlap", "no-more-unsupported-medications"))
    assert main(["gate", str(run.root), "--thresholds", str(path)]) == 0
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= columns
    result = outputs.read(run.root / "gate.json")
    for check in result.checks:
        assert set(f"{check.id}: {check.sentence}".split()) <= set(out.split())


def test_gate_prints_the_checks_and_the_verdict(
    run: RunFolder, thresholds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", str(run.root), "--thresholds", thresholds]) == 0
    out = capsys.readouterr().out
    assert "learned" in out
    assert "fail (warn)" in out
    assert out.rstrip().endswith("PASS (exit code 0). adapter meets its only check. 1 warning.")
    assert all((run.root / name).is_file() for name in ("gate.json", "gate.junit.xml", "gate.md"))


def test_explain_prints_the_steps(run: RunFolder, thresholds: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(run.root), "--thresholds", thresholds, "--explain", "learned"]) == 0
    assert "Rule: L ≥ m passes, U < m fails, else inconclusive." in capsys.readouterr().out
    assert main(["gate", str(run.root), "--thresholds", thresholds, "--explain", "learnt"]) == 2
    assert "Did you mean 'learned'?" in capsys.readouterr().err


def test_explaining_a_check_that_is_not_there_judges_nothing(run: RunFolder, thresholds: str) -> None:
    (run.root / "gate.json").unlink(missing_ok=True)
    assert main(["gate", str(run.root), "--thresholds", thresholds, "--explain", "learnt"]) == 2
    assert not (run.root / "gate.json").exists()


def test_a_file_that_only_warns_does_not_claim_that_checks_were_met(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "warn.yaml"
    path.write_text("version: 1\ncandidate: adapter\nchecks: [{id: a, metric: quality.nll, max: 0, severity: warn}]\n")
    assert main(["gate", str(run.root), "--thresholds", str(path)]) == 0
    assert capsys.readouterr().out.rstrip().endswith("every check only warns. 1 warning.")


def test_wrong_input_is_one_sentence_and_two(
    run: RunFolder, tmp_path: Path, thresholds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in (
        [str(tmp_path / "nowhere"), "--thresholds", thresholds],
        [str(run.root), "--thresholds", "adapter-relese"],
        [str(run.root), "--thresholds", thresholds, "--candidate", "x"],
        [str(run.root), "--thresholds", thresholds, "--baseline", "nothing"],
    ):
        assert main(["gate", *arguments]) == 2
        err = capsys.readouterr().err
        assert err.startswith("Error: ")
        assert err.count("\n") == 1


def test_a_refused_gate_changes_nothing(run: RunFolder, tmp_path: Path, thresholds: str) -> None:
    assert main(["gate", str(run.root), "--thresholds", thresholds]) == 0
    names = ("gate.json", "gate.junit.xml", "gate.md")
    before = {name: (run.root / name).read_bytes() for name in names}
    misspelt = tmp_path / "misspelt.yaml"
    misspelt.write_text(THRESHOLDS.replace("checks:", "cheks:"))
    for arguments in (["--thresholds", str(misspelt)], ["--thresholds", thresholds, "--candidate", "nope"]):
        assert main(["gate", str(run.root), *arguments]) == 2
        assert {name: (run.root / name).read_bytes() for name in names} == before


def test_a_run_is_accepted_shown_and_held_against(
    run: RunFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = ["--baselines", str(tmp_path / "baselines")]
    assert (
        main(["baseline", "accept", str(run.root), "--name", "main", "--reason", "first", "--who", "Ada", *store]) == 0
    )
    assert main(["baseline", "show", *store]) == 0
    out = capsys.readouterr().out
    assert "* main" in out
    assert "Ada" in out
    path = tmp_path / "t.yaml"
    path.write_text(
        "version: 1\ncandidate: adapter\nchecks: [{id: a, metric: quality.nll, equivalence: {margin: 0.1}}]\n"
    )
    assert main(["gate", str(run.root), "--thresholds", str(path), "--baseline", "main", *store]) == 0
    assert main(["report", str(run.root), "--baseline", "main", *store]) == 0
    assert main(["baseline", "show", "mian", *store]) == 2


def test_thresholds_are_made_and_compared(
    run: RunFolder, tmp_path: Path, thresholds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new.yaml"
    assert main(["thresholds", "init", str(run.root), "--out", str(out)]) == 0
    assert main(["gate", str(run.root), "--thresholds", str(out)]) == 0
    loose = tmp_path / "loose.yaml"
    loose.write_text(THRESHOLDS.replace("-0.05", "0.5"))
    capsys.readouterr()
    assert main(["thresholds", "diff", thresholds, str(loose)]) == 0
    assert capsys.readouterr().out == "LOOSENED  learned: max 0.5 is required, not max −0.05.\n"
    assert main(["thresholds", "diff", thresholds, str(loose), "--strict"]) == 1
    assert main(["thresholds", "diff", thresholds, thresholds, "--strict"]) == 0


def test_a_gate_loads_nothing_heavy(run: RunFolder, thresholds: str) -> None:
    """How soon it answers depends on the machine, so that the benchmark measures it and no test does."""
    code = (
        "import sys; from harness.cli.app import main; "
        f"code = main(['gate', {str(run.root)!r}, '--thresholds', {thresholds!r}]); "
        "heavy = {'torch', 'transformers', 'pandas', 'datasets', 'scipy.stats'} & set(sys.modules); "
        "print(heavy); sys.exit(9 if heavy else code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_terminal_without_unicode_still_gets_the_verdict(run: RunFolder, thresholds: str) -> None:
    command = [
        sys.executable,
        "-m",
        "harness",
        "gate",
        str(run.root),
        "--thresholds",
        thresholds,
        "--explain",
        "learned",
    ]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "PASS (exit code 0)" in done.stdout
