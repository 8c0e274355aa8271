"""The run folder survives kills, torn lines, full disks and hostile text."""

from __future__ import annotations

import json
import os
import shutil
from functools import partial
from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.files import read_rows, write_rows, write_text_atomically
from harness.jobs.guard import locked
from harness.store.folder import RecordWriter, RunFolder, prune_records, repair_tail
from harness.store.schema import DialogueRow, GenerationRecord, RunManifest


def record(identity: str, key: str = "k") -> GenerationRecord:
    return GenerationRecord(id=identity, key=key, reply="fine", tokens=(1, 2), reply_tokens=2, finish="eos")


@pytest.mark.parametrize("name", ["../../victim/x", "/etc/x", "a\\b", "a\0b"])
def test_a_name_that_leads_out_of_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    for place in (RunFolder(tmp_path).replies_path, partial(RunFolder(tmp_path).records_path, "scoring")):
        with pytest.raises(InputError, match="is not a file name"):
            place(name)


@pytest.mark.parametrize("variant", [{"kind": "base"}, {"name": None}, {"name": ["a"]}, {"name": "../x"}])
def test_a_manifest_whose_variants_have_no_usable_names_is_refused(tmp_path: Path, variant: dict[str, object]) -> None:
    folder = RunFolder(tmp_path)
    folder.write_manifest(RunManifest(state="complete", config={}, config_digest="", variants=(variant,)))
    with pytest.raises(InputError, match=r"run\.json: (a variant has no name|the variant name '../x')"):
        folder.read_manifest()


def test_a_pipe_that_nobody_writes_to_is_refused_instead_of_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    folder.write_manifest(RunManifest(state="complete", config={}, config_digest=""))
    os.mkfifo(tmp_path / "summary.json")
    with pytest.raises(InputError, match=r"summary\.json is neither a file nor a folder"):
        folder.read_manifest()


def test_appended_records_come_back(tmp_path: Path) -> None:
    path = tmp_path / "records" / "base.jsonl"
    with RecordWriter(path) as writer:
        writer.append([record("a"), record("b")])
    assert [row.id for row in read_rows(GenerationRecord, path)] == ["a", "b"]


def test_record_is_on_disk_before_append_returns(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    writer = RecordWriter(path)
    writer.append([record("a")])
    assert path.read_text().count("\n") == 1
    writer.close()


@pytest.mark.parametrize("cut", [1, 10, 40])
def test_half_written_last_line_is_cut_on_opening(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "base.jsonl"
    with RecordWriter(path) as writer:
        writer.append([record("a"), record("b")])
    path.write_bytes(path.read_bytes()[:-cut])
    with RecordWriter(path) as writer:
        writer.append([record("c")])
    assert [row.id for row in read_rows(GenerationRecord, path)] == ["a", "c"]


def test_tail_longer_than_one_block_is_cut(tmp_path: Path) -> None:
    path = tmp_path / "long.jsonl"
    path.write_bytes(b'{"id":"a"}\n' + b"x" * 200_000)
    assert repair_tail(path) == 200_000
    assert path.read_bytes() == b'{"id":"a"}\n'


def test_reading_ignores_a_torn_tail_only_when_told(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text('{"id":"a","key":"k"}\n{"id":"b"')
    assert [row.id for row in read_rows(GenerationRecord, path, torn_tail="ignore")] == ["a"]
    with pytest.raises(InputError, match="line 2: not a GenerationRecord"):
        list(read_rows(GenerationRecord, path))


def test_damaged_line_in_the_middle_is_named(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    path.write_text('{"id":"a","key":"k"}\nnot json\n{"id":"b","key":"k"}\n')
    with pytest.raises(InputError, match="line 2"):
        list(read_rows(GenerationRecord, path, torn_tail="ignore"))


@pytest.mark.parametrize("text", ["\ud800", "\x00", "a\u2028b", "‮abc", "😀", "line\nbreak"])
def test_hostile_text_survives_the_way_to_disk_and_back(tmp_path: Path, text: str) -> None:
    path = tmp_path / "dialogues.jsonl"
    write_rows(path, [DialogueRow(id="a", prompt=text, reference=text, columns={"note": text})])
    (row,) = read_rows(DialogueRow, path)
    assert (row.prompt, row.reference, row.columns["note"]) == (text, text, text)


def test_records_with_another_key_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "base.jsonl"
    with RecordWriter(path) as writer:
        writer.append([record("a", "old"), record("a", "new"), record("b", "new")])
    assert prune_records(path, {"new"}) == 1
    assert [(row.id, row.key) for row in read_rows(GenerationRecord, path)] == [("a", "new"), ("b", "new")]


def test_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("harness.files.os.fsync", full)
    with pytest.raises(HarnessError, match="No space left"):
        write_text_atomically(path, "new")
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def test_full_disk_while_appending_says_how_to_go_on() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    writer = RecordWriter.__new__(RecordWriter)
    writer.path = Path("/dev/full")
    writer._file = writer.path.open("ab")
    with pytest.raises(HarnessError, match="Free some space and run the same command"), writer:
        writer.append([record("a")])


def test_folder_without_run_json_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        RunFolder(tmp_path).read_manifest()


def test_damaged_run_json_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"schema": 0, "state": "complete"}))
    with pytest.raises(InputError, match="damaged or was written by another version"):
        RunFolder(tmp_path).read_manifest()


def test_a_run_json_that_is_no_object_is_told_without_a_place(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("[]")
    with pytest.raises(InputError, match=r"another version \(Input should be"):
        RunFolder(tmp_path).read_manifest()


def test_unfinished_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"not finished\. Run the command that started it again\."):
        RunFolder(tmp_path).read_summary()


def test_the_folder_above_a_run_names_the_run(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    with pytest.raises(InputError) as refused:
        RunFolder(tmp_path).read_manifest()
    assert str(refused.value).endswith(f"it has no run.json. Did you mean {tmp_path / 'run'}?")


def test_a_folder_is_not_written_over(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"is a folder; give a file\."):
        write_text_atomically(tmp_path, "new")


def test_a_folder_deleted_while_it_is_written_is_not_half_created_again(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "run")
    with locked(folder), RecordWriter(folder.records_path("scoring", "base")) as writer:
        writer.append([record("a")])
        shutil.rmtree(folder.root)
        for write in (
            lambda: writer.append([record("b")]),
            lambda: RecordWriter(folder.records_path("scoring", "other")),
            lambda: write_rows(folder.dialogues_path, []),
            lambda: folder.write_manifest(RunManifest(state="running", config={}, config_digest="")),
        ):
            with pytest.raises(HarnessError, match="was deleted during this run"):
                write()
    assert not folder.root.exists()


def test_temporary_files_of_killed_runs_are_removed_and_others_kept(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    left = [tmp_path / ".run.json.a1b2c3d4", tmp_path / "replies" / ".base.jsonl.abcdefgh"]
    left.append(tmp_path / "records" / "scoring" / ".base.jsonl.x_yz1234")
    others = [tmp_path / ".env.settings", tmp_path / "notes.json.a1b2c3d4", tmp_path / ".run.json"]
    for path in (*left, *others):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    with locked(folder):
        assert [path for path in left if path.exists()] == []
        assert all(path.exists() for path in others)


def test_a_folder_that_is_not_there_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere does not exist\. Give the folder of a run\."):
        RunFolder(tmp_path / "nowhere").read_manifest()
