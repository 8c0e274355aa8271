"""The command line: quick, torch-free until work begins, and every error one sentence with its exit code."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune.cli import main
from harness.errors import InputError
from tests.finetune.conftest import write_recipe


def test_help_needs_no_torch() -> None:
    code = "import sys; sys.argv = ['finetune', '--help']\nfrom finetune.cli import main\nmain()\n"
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
        (["merge", "--base", "BASE", "--adapter", "BASE", "--out", "x", "--device", "gpu"], "cuda or cuda:N"),
        (["merge", "--base", "BASE", "--adapter", "BASE", "--out", "x", "--device", "cuda:99"], "no such usable CUDA"),
    ],
)
def test_wrong_input_is_one_sentence_and_exit_code_2(
    base: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    filled = [str(base) if part == "BASE" else part for part in arguments]
    assert main(filled) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert "Traceback" not in printed.out + printed.err
    assert list(tmp_path.iterdir()) == []


def test_an_interruption_exits_with_130(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("finetune.pipeline.run", interrupt)
    assert main(["run", str(write_recipe(tmp_path, base)), "--out", str(tmp_path / "out")]) == 130
    assert "resume from the last checkpoint" in capsys.readouterr().err


def test_an_error_of_ours_shows_its_traceback_only_when_asked(base: Path) -> None:
    with pytest.raises(InputError, match="There is no model folder"):
        main(["run", "quickstart", "--set", "base=./absent", "--debug"])


def test_merge_prints_what_was_kept(
    base: Path, adapter: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["merge", "--base", str(base), "--adapter", str(adapter), "--out", str(tmp_path / "out")]
    assert main([*arguments, "--device", "cpu"]) == 0
    printed = capsys.readouterr().out
    assert "Merged 6 weights (original)" in printed
    assert "was kept" in printed
    assert "an unquantised base was assumed" in printed  # this adapter was made with plain peft
    assert main([*arguments, "--strategy", "dequantized", "--device", "cpu"]) == 0
    assert "Merged 6 weights (dequantized)" in (printed := capsys.readouterr().out)
    assert "assumed" not in printed
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()


def test_a_folder_that_cannot_be_made_is_an_input_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    assert main(["run", "quickstart", "--out", str(tmp_path / "file" / "made")]) == 2
    assert "Check the path" in capsys.readouterr().err
