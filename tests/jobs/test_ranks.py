"""Processes that share a run: who does what, who is refused, and what is joined, over backends that need no model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.backends.base import ReplyRequest, ScoringRequest
from harness.backends.choose import take_gpu
from harness.backends.ranks import WHOLE, Share, share_of
from harness.config import RunConfig
from harness.errors import HarnessError, InputError
from harness.files import locked as lock_held
from harness.jobs import ranks
from harness.jobs.guard import lock_of
from harness.jobs.run import run as run_job
from harness.jobs.runner import run as run_alone
from harness.store.folder import RunFolder
from harness.store.shards import parts_of
from tests.passes.test_registry import Opened, asked

FIRST, SECOND = Share(0, 2), Share(1, 2)
PASSES = ("scoring", "generation", "latency")


def shared(config: RunConfig, out: Path, share: Share) -> tuple[RunFolder | None, Opened]:
    """Return the folder if this process ended the run, and what it was asked."""
    opened = Opened()
    return ranks.run(config, out, share, backends=opened), opened


def test_every_second_batch_is_ones_own_and_the_others_are_done() -> None:
    reference = ScoringRequest("a", (1, 2), 1)
    batches = [[ReplyRequest("a", (1,), reference), ReplyRequest("b", (1,))], [ReplyRequest("c", (1,), done=True)]]
    assert [(one.id, one.done) for one in FIRST.mark(batches)] == [("a", False), ("b", False), ("c", True)]
    first, second, third = SECOND.mark(batches)
    assert (first.done, second.done, third.done) == (True, True, True)
    assert first.reference is not None
    assert first.reference.done


def test_a_launcher_or_the_option_says_which_share_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    assert share_of(None) == WHOLE
    assert share_of("2/4") == Share(2, 4)
    for name, value in (("RANK", "3"), ("WORLD_SIZE", "4"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert share_of(None) == Share(3, 4, local=1)
    with pytest.raises(InputError, match="a launcher started 4 processes already"):
        share_of("0/2")


@pytest.mark.parametrize("shard", ["2/2", "1", "-1/2", "a/b", "0/0"])
def test_a_share_that_does_not_exist_is_refused(shard: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with pytest.raises(InputError, match="write it as I/N with I from 0 to N - 1"):
        share_of(shard)


def test_processes_that_cannot_have_a_gpu_each_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    taken: list[int] = []
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    take_gpu(Share(0, 2, local=0), "auto")
    assert taken == [0]
    with pytest.raises(InputError, match="Process 1 of this host has no GPU: torch sees 1"):
        take_gpu(Share(1, 2, local=1), "auto")
    with pytest.raises(InputError, match="cuda:0 names one GPU for 2 processes"):
        take_gpu(Share(0, 2, local=0), "cuda:0")


def test_latency_is_measured_by_the_last_process_alone_once_the_others_have_ended(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", *PASSES)
    ended, opened = shared(config, tmp_path / "run", FIRST)
    assert ended is None
    assert sorted(opened.by_name["base"].asked) == ["generate d0", "generate d2", "score d0", "score d2"]
    assert not list((tmp_path / "run").glob("records/latency/*"))
    ended, opened = shared(config, tmp_path / "run", SECOND)
    assert ended is not None
    assert ended.read_manifest().state == "complete"
    assert sorted(opened.by_name["base"].asked) == ["generate d1", "generate d3", "score d1", "score d3"]
    alone = run_alone(config, tmp_path / "alone", backends=Opened())
    assert ended.read_summary().metrics.keys() == alone.read_summary().metrics.keys()
    assert ended.replies("other") == alone.replies("other")


def test_the_last_process_does_not_time_while_another_is_still_leaving(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ranks, "LIMIT", 0.0)
    config = asked(tmp_path / "in", *PASSES)
    shared(config, tmp_path / "run", FIRST)
    with (
        lock_held(lock_of(RunFolder(tmp_path / "run"), "0-of-2"), "busy"),
        pytest.raises(HarnessError, match="part 0-of-2 is done, but its process has not ended"),
    ):
        shared(config, tmp_path / "run", SECOND)
    ended, opened = shared(config, tmp_path / "run", SECOND)
    assert ended is not None
    assert opened.by_name["base"].asked == []  # its share was kept


def test_one_process_finishes_what_two_began(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "scoring", "generation")
    shared(config, tmp_path / "run", SECOND)
    opened = Opened()
    folder = run_alone(config, tmp_path / "run", backends=opened)
    assert sorted(opened.by_name["base"].asked) == ["generate d0", "generate d2", "score d0", "score d2"]
    assert folder.read_manifest().state == "complete"
    assert parts_of(folder) == []
    assert [path.name for path in folder.root.rglob(".*")] == [".lock"]


def test_a_process_that_comes_when_all_is_done_leaves_it_as_it_is(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "scoring")
    for share in (FIRST, SECOND):
        shared(config, tmp_path / "run", share)
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert shared(config, tmp_path / "run", SECOND)[0] is None
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert shared(config, tmp_path / "run", FIRST)[0] is not None  # as one process does, it computes and renders again


def running_first(tmp_path: Path) -> tuple[RunConfig, RunFolder]:
    """Return a run of which process 0 of 2 has measured its share; a test then holds its lock."""
    config = asked(tmp_path / "in", "scoring")
    shared(config, tmp_path / "run", FIRST)
    return config, RunFolder(tmp_path / "run")


def other_config(config: RunConfig, folder: Path) -> RunConfig:
    return config.model_copy(update={"seed": 7})


def other_dialogues(config: RunConfig, folder: Path) -> RunConfig:
    file = folder / "in" / "dialogues.jsonl"
    file.write_text(file.read_text().replace("complaint 2", "complaint 9"))
    return config


def same(config: RunConfig, folder: Path) -> RunConfig:
    return config


@pytest.mark.parametrize(
    ("change", "share", "sentence"),
    [
        (other_config, SECOND, "belongs to a run with another config"),
        (other_dialogues, SECOND, "process 0 measures something else than process 1 of 2"),
        (same, Share(1, 3), r"is being measured by 2 processes, and this is process 1 of 3"),
        (same, FIRST, "process 0 of 2 .* is running already"),
        (same, WHOLE, r"is being measured by other processes \(0-of-2\)"),
    ],
)
def test_a_process_that_does_not_belong_to_a_running_one_is_refused(
    tmp_path: Path, change: Callable[[RunConfig, Path], RunConfig], share: Share, sentence: str
) -> None:
    config, folder = running_first(tmp_path)
    config = change(config, tmp_path)
    with lock_held(lock_of(folder, "0-of-2"), "busy"), pytest.raises(InputError, match=sentence):
        shared(config, folder.root, share)


def test_of_a_share_that_is_done_only_changed_dialogues_are_measured_again(tmp_path: Path) -> None:
    config, folder = running_first(tmp_path)
    other_dialogues(config, tmp_path)
    assert shared(config, folder.root, SECOND)[0] is None  # process 0 has to do its share again
    ended, opened = shared(config, folder.root, FIRST)
    assert ended is not None
    assert opened.by_name["base"].asked == ["score d2"]


def shard(folder: RunFolder) -> Path:
    return folder.root / "records" / "scoring" / "base.0-of-2.jsonl"


def test_equal_duplicates_are_joined_and_unequal_ones_refused(tmp_path: Path) -> None:
    config, folder = running_first(tmp_path)
    head, first, *rest = shard(folder).read_text().splitlines()
    shard(folder).write_text("\n".join([head, first, first, *rest]) + "\n")
    other = shard(folder).with_name("base.1-of-2.jsonl")
    other.write_text("\n".join([head, json.dumps({**json.loads(first), "nll": 99.0})]) + "\n")
    with pytest.raises(InputError, match=r"base\.0-of-2\.jsonl and .*base\.1-of-2\.jsonl differ about 'd\d'"):
        shared(config, folder.root, SECOND)
    other.unlink()
    ended, _ = shared(config, folder.root, SECOND)
    assert ended is not None
    rows = [json.loads(line) for line in (shard(folder).with_name("base.jsonl")).read_text().splitlines()]
    assert sorted(row["id"] for row in rows) == ["d0", "d1", "d2", "d3"]


def test_a_shard_of_another_plan_is_not_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config, folder = running_first(tmp_path)
    head, *rest = shard(folder).read_text().splitlines()
    foreign = json.dumps({**json.loads(head), "plan": "0" * 64})
    original = ranks.join_shards

    def exchanged(*arguments: object) -> None:
        shard(folder).write_text("\n".join([foreign, *rest]) + "\n")
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(ranks, "join_shards", exchanged)
    with pytest.raises(InputError, match="was measured under another plan"):
        shared(config, folder.root, SECOND)


def test_variants_are_not_trained_by_several_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    config = RunConfig(variants=str(tmp_path / "variants.json"), finetune="small", device="cpu")
    with pytest.raises(InputError, match=r"Run `python -m finetune run small` first"):
        run_job(config, tmp_path / "run", shard="0/2")
    assert not (tmp_path / "run").exists()
