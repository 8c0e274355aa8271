"""Which folders are runs, and what is said of those that cannot be used."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.leaderboard.find import DEEPEST, find_runs
from harness.store.schema import SanityCheck
from tests.leaderboard.made_boards import board_run, values_of
from tests.run_folders import with_sets

GAINS = {"base": 0.0}


def names(root: Path) -> list[str]:
    return [run.name for run in find_runs(root)[0]]


def reasons(root: Path) -> dict[str, str]:
    return {one.name: one.reason for one in find_runs(root)[1]}


def test_runs_are_found_at_any_depth_in_the_order_of_their_paths(tmp_path: Path) -> None:
    for place in ("b/deep/er", "a", "b/run"):
        board_run(tmp_path / place, GAINS)
    assert names(tmp_path) == ["a", "b/deep/er", "b/run"]


def test_a_run_itself_is_a_folder_with_one_run(tmp_path: Path) -> None:
    board_run(tmp_path / "run", GAINS)
    assert names(tmp_path / "run") == ["run"]


def test_of_a_run_only_its_sets_are_searched(tmp_path: Path) -> None:
    with_sets(board_run(tmp_path / "run", GAINS), "clinic", general=values_of(GAINS))
    board_run(tmp_path / "run" / "notes" / "other", GAINS)
    assert [(run.name, run.within) for run in find_runs(tmp_path)[0]] == [("run", ""), ("run/sets/general", "general")]


def test_links_and_hidden_folders_are_not_entered(tmp_path: Path) -> None:
    board_run(tmp_path / "elsewhere" / "run", GAINS)
    board_run(tmp_path / "here" / "run", GAINS)
    board_run(tmp_path / "here" / ".run.previous", GAINS)
    (tmp_path / "here" / "linked").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == ["run"]


def test_a_run_with_a_link_for_its_sets_is_refused_and_the_link_not_followed(tmp_path: Path) -> None:
    board_run(tmp_path / "elsewhere" / "run", GAINS)
    board_run(tmp_path / "here" / "run", GAINS)
    (tmp_path / "here" / "run" / "sets").symlink_to(tmp_path / "elsewhere")
    assert names(tmp_path / "here") == []
    assert "symbolic link" in reasons(tmp_path / "here")["run"]


def test_folders_are_searched_to_a_bounded_depth(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["x"] * DEEPEST)
    board_run(deep, GAINS)
    board_run(tmp_path.joinpath(*["y"] * (DEEPEST + 1)), GAINS)
    assert names(tmp_path) == ["/".join("x" * DEEPEST)]


def test_what_cannot_be_used_is_told_with_the_reason(tmp_path: Path) -> None:
    board_run(tmp_path / "unfinished", GAINS, state="running")
    board_run(tmp_path / "failed", GAINS, state="failed")
    board_run(tmp_path / "unsound", GAINS, sanity=(SanityCheck(name="finite weights", ok=False),))
    edited = board_run(tmp_path / "edited", GAINS)
    edited.replies_path("base").write_text("")
    files = {"broken": "{", "newer": '{"schema": 99}', "list": "[]", "deep": "[" * 100_000}
    for name, text in files.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(text)
    told = reasons(tmp_path)
    assert told["failed"] == "It failed."
    assert told["unsound"].startswith("A sanity check failed: finite weights.")
    assert told["unfinished"] == "It is running, or was interrupted."
    assert "replies/base.jsonl was changed" in told["edited"]
    assert "schema 99" in told["newer"]
    assert all("damaged" in told[name] for name in ("broken", "list", "deep"))
    assert names(tmp_path) == []


def test_a_run_without_a_summary_is_told(tmp_path: Path) -> None:
    folder = board_run(tmp_path / "run", GAINS)
    folder.summary_path.unlink()
    facts = json.loads(folder.manifest_path.read_text())
    del facts["digests"]["summary.json"]
    folder.manifest_path.write_text(json.dumps(facts))
    assert "has no summary.json" in reasons(tmp_path)["run"]


def test_paths_of_the_machine_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{")
    assert str(tmp_path) not in reasons(tmp_path)["run"]


@pytest.mark.parametrize("refused", ["stat", "scandir"])
def test_a_folder_that_cannot_be_read_does_not_stop_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    board_run(tmp_path / "run", GAINS)
    (tmp_path / "lost+found").mkdir()
    known: Any = getattr(os, refused)

    def guarded(path: Any, *args: Any, **more: Any) -> Any:
        if "lost+found" in os.fspath(path):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return known(path, *args, **more)

    monkeypatch.setattr(os, refused, guarded)
    assert names(tmp_path) == ["run"]
    assert reasons(tmp_path)["lost+found"] == "It cannot be searched: Permission denied."


def test_a_folder_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        find_runs(tmp_path / "absent")
