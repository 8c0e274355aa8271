"""The command line: quick, torch-free until work begins, and every error one sentence with its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from finetune.cli import app
from tests.finetune.conftest import write_recipe

runner = CliRunner()


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; sys.argv = ['finetune', '--help']\nfrom finetune.cli import app\ntry:\n    app()\nfinally:\n    "
    )
    code += "assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert {"run", "train", "merge"} <= set(done.stdout.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run", "quickstrat"], "Did you mean 'quickstart'?"),
        (["run", "quickstart", "--set", "lora.rank=4"], "LoraConfig has no option 'rank'"),
        (["run", "quickstart", "--set", "bse=x"], "unknown key 'bse'. Did you mean 'base'?"),
        (["run", "quickstart", "--set", "base=./absent"], "There is no model folder ./absent"),
        (["run", "quickstart", "--set", "dialogues.source=absent.jsonl"], "absent.jsonl"),
        (["merge", "--base", "BASE", "--adapter", "BASE", "--out", "x"], "no adapter_config.json"),
        (["merge", "--base", "./gone", "--adapter", "BASE", "--out", "x"], "There is no model folder ./gone"),
        (["merge", "--base", "b", "--adapter", "a", "--out", "x", "--strategy", "orignal"], "Did you mean 'original'?"),
        (["merge", "--base", "BASE", "--adapter", "BASE", "--out", "x", "--device", "gpu"], "cuda, or cuda:N"),
        (["merge", "--base", "BASE", "--adapter", "BASE", "--out", "x", "--device", "cuda:99"], "no such usable CUDA"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    base: Path, tmp_path: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [str(base) if part == "BASE" else part for part in arguments]
    result = runner.invoke(app, filled)
    assert result.exit_code == 2
    assert message in result.stderr
    assert result.stderr.count("\n") == 1
    assert "Traceback" not in result.output
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_exits_with_130(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.pipeline.run", interrupt)
    result = runner.invoke(app, ["run", str(write_recipe(tmp_path, base)), "--out", str(tmp_path / "out")])
    assert result.exit_code == 130
    assert "continues from the last checkpoint" in result.stderr


def test_an_error_of_ours_shows_its_traceback_only_when_asked(base: Path) -> None:
    arguments = ["run", "quickstart", "--set", "base=./absent", "--debug"]
    result = runner.invoke(app, arguments)
    assert result.exception is not None
    assert "There is no model folder" in str(result.exception)


def test_merge_prints_what_was_kept(base: Path, adapter: Path, tmp_path: Path) -> None:
    arguments = ["merge", "--base", str(base), "--adapter", str(adapter), "--out", str(tmp_path / "out")]
    result = runner.invoke(app, [*arguments, "--strategy", "dequantized", "--device", "cpu"])
    assert result.exit_code == 0, result.output
    assert "Merged 6 weights (dequantized)" in result.stdout
    assert "was kept" in result.stdout
    assert "nf4 was assumed" in result.stdout  # this adapter was made with plain peft
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = runner.invoke(app, ["run", "quickstart", "--out", str(tmp_path / "file" / "made")])
    assert done.exit_code == 2
    assert "Check the path" in done.output
