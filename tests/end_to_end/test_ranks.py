"""Two processes measure what one measures, and whoever dies leaves a folder that any number of processes can finish."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from harness.store.folder import RunFolder
from harness.store.shards import parts_of
from tests.finetune.conftest import make_adapter, make_base

NAMES = ("base", "adapter", "merged")
SIZE = 32  # dialogues: four joint groups of eight on a CPU


@dataclass(frozen=True)
class Runs:
    """The folder with all runs, and how the processes of each round ended."""

    root: Path
    codes: list[list[int]]

    def of(self, name: str) -> RunFolder:
        return RunFolder(self.root / name)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Return what one process made; what two made; and what 1, 3 and 2 made of a run of which one of two had died."""
    root = tmp_path_factory.mktemp("ranks")
    config = root / "config.json"
    config.write_text(json.dumps(_config(root)))

    def together(out: str, of: int, **dying: int) -> list[dict[str, Any]]:
        return [
            {"out": out, "shard": f"{rank}/{of}", **({"dies_after": dying[f"r{rank}"]} if f"r{rank}" in dying else {})}
            for rank in range(of)
        ]

    rounds = [
        [{"out": "one"}],
        together("two", 2),
        together("died", 2, r1=11),
        [{"copy": "died", "to": name} for name in ("by-1", "by-3", "by-2")],
        [{"out": "by-1"}],
        together("by-3", 3),
        [{"out": "by-2", "shard": "1/2"}],
    ]
    done = subprocess.run(
        [sys.executable, "-m", "tests.end_to_end.rank_server", str(config), *map(json.dumps, rounds)],
        capture_output=True,
        text=True,
        check=False,
        cwd=root,
        env={
            **os.environ,
            "HF_HUB_OFFLINE": "1",
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
        },
    )
    assert done.returncode == 0, done.stderr
    return Runs(root, json.loads(done.stdout.splitlines()[-1]))


def _config(root: Path) -> dict[str, Any]:
    base = make_base(root / "base", dtype="float32")
    adapter = make_adapter(base, root / "adapter", size=0.05)
    merged = _merged(base, adapter, root / "merged")
    rows = [
        {
            "id": f"d{n}",
            "instruction": f"the patient has a cough {'and fever ' * (n % 7)}call {n}",
            "output": "rest " * n,
        }
        for n in range(1, SIZE + 1)
    ]
    source = root / "dialogues.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    described = [
        {"name": "base", "kind": "base", "model": str(base)},
        {"name": "adapter", "kind": "adapter", "model": str(base), "adapter": str(adapter)},
        {"name": "merged", "kind": "merged", "model": str(merged)},
    ]
    return {
        "variants": [{**one, "dtype": "float32"} for one in described],
        "dialogues": {"source": str(source), "split": "all", "leakage": "warn", "too_long": "skip"},
        "device": "cpu",
        "generation": {"max_new_tokens": 6},
        "passes": ["scoring", "generation", "fidelity"],
        "metrics": ["nll", "rouge"],
        "stats": {"resamples": 200},
    }


def _merged(base: Path, adapter: Path, out: Path) -> Path:
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(str(base)), str(adapter))
    model.merge_and_unload().save_pretrained(str(out))
    AutoTokenizer.from_pretrained(str(base)).save_pretrained(str(out))
    return out


def refuse_difference(found: RunFolder, expected: RunFolder) -> None:
    """Fail unless two runs have the same numbers and replies, and likelihoods within 1e-9."""
    assert found.read_manifest().state == "complete"
    assert found.summary_path.read_bytes() == expected.summary_path.read_bytes()
    for name in NAMES:
        pairs = list(zip(found.replies(name), expected.replies(name), strict=True))
        assert [mine.reply for mine, _ in pairs] == [theirs.reply for _, theirs in pairs]
        assert [mine.nll for mine, _ in pairs] == pytest.approx([theirs.nll for _, theirs in pairs], abs=1e-9)


def test_two_processes_end_with_what_one_ends_with(runs: Runs) -> None:
    assert runs.codes[:2] == [[0], [0, 0]]
    refuse_difference(runs.of("two"), runs.of("one"))
    assert runs.of("two").read_manifest().provenance["processes"] == 2


def test_nothing_in_the_folder_tells_the_processes_from_each_other_afterwards(runs: Runs) -> None:
    for name in ("two", "by-1", "by-2", "by-3"):
        root = runs.of(name).root
        files = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
        alone = runs.of("one").root
        assert files == {path.relative_to(alone).as_posix() for path in alone.rglob("*") if path.is_file()}


def test_each_dialogue_is_measured_once(runs: Runs) -> None:
    for path in runs.of("two").root.glob("records/*/*.jsonl"):
        ids = [json.loads(line)["id"] for line in path.read_text().splitlines()]
        assert len(ids) == len(set(ids)) == SIZE, path


def test_the_others_finish_their_share_when_one_is_killed_in_the_middle_of_a_line(runs: Runs) -> None:
    assert runs.codes[2] == [0, -signal.SIGKILL]
    died = runs.of("died")
    assert died.read_manifest().state == "running"
    assert [part.read_manifest().state for part in parts_of(died)] == ["complete", "running"]
    shard = (died.root / "records" / "generation" / "base.0-of-2.jsonl").read_text().splitlines()
    assert len(shard) == 1 + SIZE // 2  # its head and half of the replies
    assert 1 < len((died.root / "records" / "fidelity" / "merged.0-of-2.jsonl").read_text().splitlines()) < 1 + SIZE
    torn = [path for path in died.root.glob("records/*/*.1-of-2.jsonl") if path.read_text().endswith("half a li")]
    assert len(torn) == 1


@pytest.mark.parametrize("count", [1, 2, 3])
def test_any_number_of_processes_finishes_it(runs: Runs, count: int) -> None:
    """By two: the one that died alone is started again, as a Slurm array does."""
    assert runs.codes[4:] == [[0], [0, 0, 0], [0]]
    refuse_difference(runs.of(f"by-{count}"), runs.of("one"))
