"""A command that lacks optional packages says in one sentence which extra brings them."""

from __future__ import annotations

import importlib.util
import tomllib
from pathlib import Path
from typing import Any

import pytest

import finetune.cli
import harness.cli.app
from harness.errors import PACKAGES, missing_package, require

ROOT = Path(__file__).resolve().parents[2]
DISTRIBUTIONS = {"mlflow": "mlflow-skinny", "pynvml": "nvidia-ml-py", "sentence_transformers": "sentence-transformers"}


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make packages look as if they were not installed."""
    found = importlib.util.find_spec

    def hide(*names: str) -> None:
        monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in names else found(name))

    return hide


def test_run_without_torch_names_the_extra(capsys: Any, without: Any, tmp_path: Path) -> None:
    without("torch")
    assert harness.cli.app.main(["run", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said == "Error: harness run needs the extra 'run': pip install 'medical-dialogue-harness[run]'.\n"


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (("run",), "train"),
        (("train",), "train"),
        (("merge", "--base", "b", "--adapter", "a", "--out", "o"), "run"),
    ],
)
def test_finetune_names_the_extra(capsys: Any, without: Any, arguments: tuple[str, ...], extra: str) -> None:
    without("torch")
    assert finetune.cli.main(list(arguments)) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"Error: finetune {arguments[0]} needs the extra '{extra}': pip install ")


def test_training_without_trl_names_the_extra(without: Any) -> None:
    without("trl")
    with pytest.raises(harness.cli.app.InputError, match=r"needs the extra 'train'"):
        require("train", "finetune run")


def test_a_package_missed_later_is_explained_too(capsys: Any, monkeypatch: Any, tmp_path: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'pyarrow.parquet'", name="pyarrow.parquet")

    monkeypatch.setattr("harness.jobs.score.score", fail)
    assert harness.cli.app.main(["score", "--replies", "a=b.jsonl", "--out", str(tmp_path / "run")]) == 2
    assert "pyarrow is not installed. It comes with the extra 'run': pip install" in capsys.readouterr().err


def test_a_package_of_no_extra_is_a_bug() -> None:
    assert missing_package(ModuleNotFoundError("No module named 'harness.x'", name="harness.x")) is None


def test_packages_are_those_of_the_project_file() -> None:
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, packages in PACKAGES.items():
        names = {requirement.partition(">=")[0] for requirement in declared[extra]} - {"medical-dialogue-harness[run]"}
        assert {DISTRIBUTIONS.get(package, package) for package in packages} == names


def test_version_of_both_commands(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.metadata.version", lambda name: {"medical-dialogue-harness": "1.2.3"}[name])
    assert harness.cli.app.main(["--version"]) == 0
    assert finetune.cli.main(["--version"]) == 0
    assert capsys.readouterr().out == "medical-dialogue-harness 1.2.3\n" * 2
