"""What a tired user types wrong: one clear sentence, the right exit code, nothing half-written."""

from __future__ import annotations

import errno
import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.cli.app import main
from tests.run_folders import make_run, random_values

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model folder with the right files and one tiny tensor: enough for every check that comes before loading."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama"}))
    write_safetensors(folder / "model.safetensors")
    return folder


def write_safetensors(path: Path) -> None:
    header = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\x00" * 8)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    rows = ({"instruction": f"Question {n}?", "output": f"Answer {n}."} for n in range(50))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def config(tmp_path: Path, model: Path, data: Path, **changes: Any) -> Path:
    value = {
        "variants": [{"name": "base", "kind": "base", "model": str(model)}],
        "dialogues": {"source": str(data), "split": "all"},
        "device": "cpu",
        **changes,
    }
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(value, sort_keys=False))
    return path


def refused(capsys: pytest.CaptureFixture[str], out: Path, *arguments: object) -> str:
    """Run the command, expect exit code 2 and nothing written, and return the sentence."""
    code = main(["run", *map(str, arguments), "--out", str(out)])
    said = capsys.readouterr().err
    assert code == 2
    assert not out.exists()
    assert "Traceback" not in said
    return said.replace("\n", " ")


def test_misspelt_key(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    path = config(tmp_path, model, data, generaton={"max_new_tokens": 5})
    said = refused(capsys, tmp_path / "run", path)
    assert "unknown key 'generaton'" in said
    assert "Did you mean 'generation'" in said
    assert "line" in said


def test_misspelt_shipped_config(capsys: Any, tmp_path: Path) -> None:
    assert "Did you mean 'quickstart'" in refused(capsys, tmp_path / "run", "quickstrat")


def test_data_without_the_mapped_column(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    dialogues = {"source": str(data), "columns": {"reference": "answer"}}
    said = refused(capsys, tmp_path / "run", config(tmp_path, model, data, dialogues=dialogues))
    assert "answer" in said
    assert "data.jsonl" in said


def test_adapter_folder_without_its_config(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    (tmp_path / "adapter").mkdir()
    variants = [{"name": "a", "kind": "adapter", "model": str(model), "adapter": str(tmp_path / "adapter")}]
    said = refused(capsys, tmp_path / "run", config(tmp_path, model, data, variants=variants))
    assert "adapter_config.json" in said


def test_model_folder_that_does_not_exist(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    variants = [{"name": "a", "kind": "base", "model": str(tmp_path / "absent")}]
    assert "absent" in refused(capsys, tmp_path / "run", config(tmp_path, model, data, variants=variants))


def test_weights_cut_short(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-3])
    assert "truncated" in refused(capsys, tmp_path / "run", config(tmp_path, model, data))


def test_pickled_weights(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    said = refused(capsys, tmp_path / "run", config(tmp_path, model, data))
    assert "safetensors" in said
    assert "pytorch_model.bin" in said


@pytest.mark.parametrize("limit", ["0", "-3", "x"])
def test_limit_that_measures_nothing(capsys: Any, tmp_path: Path, model: Path, data: Path, limit: str) -> None:
    said = refused(capsys, tmp_path / "run", config(tmp_path, model, data), "--limit", limit)
    assert "--limit" in said


def test_metric_that_does_not_exist(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    said = refused(capsys, tmp_path / "run", config(tmp_path, model, data, metrics=["rogue"]))
    assert "Did you mean 'rouge'" in said


def test_set_without_a_value(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    assert "key=value" in refused(capsys, tmp_path / "run", config(tmp_path, model, data), "--set", "limit")


def test_folder_of_another_config_is_left_alone(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    manifest = {"schema": 1, "state": "complete", "config": {}, "config_digest": "another"}
    (out / "run.json").write_text(json.dumps(manifest))
    assert main(["run", str(config(tmp_path, model, data)), "--out", str(out)]) == 2
    assert "another config" in capsys.readouterr().err
    assert json.loads((out / "run.json").read_text()) == manifest


def test_folder_with_other_files_is_left_alone(capsys: Any, tmp_path: Path, model: Path, data: Path) -> None:
    out = tmp_path / "thesis"
    out.mkdir()
    (out / "chapter1.txt").write_text("years of work")
    assert main(["run", str(config(tmp_path, model, data)), "--out", str(out)]) == 2
    assert "not a run folder" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["chapter1.txt"]


def test_unknown_command_is_a_usage_error(capsys: Any) -> None:
    assert main(["mesure"]) == 2


def test_report_of_a_folder_that_is_no_run(capsys: Any, tmp_path: Path) -> None:
    assert main(["report", str(tmp_path)]) == 2
    assert "not a run folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["report", "RUN"], ["compare", "RUN", "RUN"], ["thresholds", "init", "RUN", "--out", "limits.yaml"]]
)
def test_an_edited_run_is_told_in_the_terminal(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = make_run(Path("run"), random_values(20))
    given = [one.replace("RUN", "run") for one in arguments]
    assert main(given) == 0
    assert "Warning" not in capsys.readouterr().err
    folder.summary_path.write_text(folder.summary_path.read_text().replace("0.2", "0.9"))
    assert main([*given, *(["--force"] if "init" in given else [])]) == 0
    assert "Warning: run: summary.json was changed after the run ended" in capsys.readouterr().err


def test_compare_needs_two_runs(capsys: Any, tmp_path: Path) -> None:
    assert main(["compare", str(tmp_path)]) == 2
    assert "two run folders" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("metrics=[rogue]", "Did you mean 'rouge'"),
        ("prompt=know-medcal", "Did you mean 'know-medical'"),
        ("device=cuda:99", "device: cuda:99 was requested"),
        ("variants=runs/mine/base.json", "'variants' must be the path of the variants.json that the recipe writes"),
    ],
)
def test_a_mistake_is_found_before_minutes_of_training(
    capsys: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, override: str, said: str
) -> None:
    def trained(*_: object, **__: object) -> None:
        raise AssertionError("training began")

    monkeypatch.setattr("finetune.pipeline.run", trained)
    assert said in refused(capsys, tmp_path / "run", "quickstart", "--set", override)


def test_an_interruption_is_said_with_what_to_do(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("harness.jobs.run.run", interrupted)
    assert main(["run"]) == 130
    assert "Interrupted. Finished work is kept; run the same command to continue." in capsys.readouterr().err


def test_a_report_that_cannot_be_written_there_names_the_path(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert main(["report", str(GOLDEN), "--out", str(tmp_path / "file" / "report.html")]) == 2
    said = capsys.readouterr().err
    assert str(tmp_path / "file") in said
    assert "Check the path" in said
    assert "This is a bug" not in said


def test_a_full_disk_is_an_incomplete_run_and_no_wrong_usage(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("harness.jobs.run.run", full)
    assert main(["run"]) == 4
    assert "No space left on device. Free some space" in capsys.readouterr().err


def test_a_bug_says_how_to_see_more(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ValueError("odd.")

    monkeypatch.setattr("harness.jobs.run.run", broken)
    assert main(["run"]) == 4
    assert capsys.readouterr().err == (
        "Run 'quickstart': reading its variants and dialogues.\n"
        "Error: ValueError: odd. This is a bug; run the command again with --debug to see where it happened.\n"
    )


def test_the_first_line_comes_before_what_takes_seconds_to_import() -> None:
    code = (
        "import sys; from harness.cli.app import main; from harness.progress import PlainProgress\n"
        "def first(self, message):\n"
        "    print(message, sorted({'torch', 'numpy', 'pandas'} & set(sys.modules))); sys.exit()\n"
        "PlainProgress.note = first; main(['run', 'nowhere.yaml'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.splitlines() == ["Run 'nowhere.yaml': reading its variants and dialogues. []"], done.stderr


@pytest.mark.parametrize("command", [["--help"], ["metrics"], ["gate", "--help"], ["doctor", "--help"]])
def test_commands_that_need_no_model_import_no_torch(command: list[str]) -> None:
    code = (
        "import sys; from harness.cli.app import main; main(sys.argv[1:]); "
        "heavy = {'torch', 'transformers', 'datasets', 'evaluate', 'pandas', 'scipy.stats'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
