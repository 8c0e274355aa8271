"""What was read is read again only when the file changed, and the cache can be missing, damaged or switched off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import save_file

from harness.errors import HarnessError, InputError
from harness.variants import reading, remembered
from harness.variants.digests import digest_model_folder
from harness.variants.folders import weights_digests, weights_read_meanwhile
from harness.variants.model import Variant
from harness.variants.reading import read_ahead, read_weights
from harness.variants.weights import first_not_finite

LONG_AGO = 1_600_000_000_000_000_000  # ns


def write(folder: Path, number: float, *, when: int = LONG_AGO) -> Path:
    path = folder / "model.safetensors"
    save_file({"w": np.full(4, number, np.float32)}, path)
    os.utime(path, ns=(when, when))
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were really read."""
    seen: list[Path] = []
    real = reading._read

    def counted(file: Path, *rest: object) -> object:
        seen.append(file)
        return real(file, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_read", counted)
    return seen


@pytest.fixture
def new_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """A cache for this test, and a function that forgets what only this process knows."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(remembered, "_known", {})
    return remembered._known.clear


def test_a_file_is_read_once_over_several_processes(
    tmp_path: Path, reads: list[Path], new_process: Callable[[], None]
) -> None:
    path = write(tmp_path, 1.0)
    first = digest_model_folder(tmp_path)
    new_process()
    assert digest_model_folder(tmp_path) == first
    assert reads == [path]


@pytest.mark.parametrize("when", [LONG_AGO, LONG_AGO + 1], ids=["another inode", "another time"])
def test_a_changed_file_of_the_same_size_is_read_again(
    tmp_path: Path, new_process: Callable[[], None], when: int
) -> None:
    path = write(tmp_path, 1.0)
    first = digest_model_folder(tmp_path)
    new_process()
    if when == LONG_AGO:
        path.rename(tmp_path / "kept")
    write(tmp_path, 2.0, when=when)
    assert digest_model_folder(tmp_path) != first


def test_a_file_written_just_now_is_not_remembered_for_other_processes(
    tmp_path: Path, reads: list[Path], new_process: Callable[[], None]
) -> None:
    """On a file system that counts in seconds it could still change without a trace."""
    save_file({"w": np.zeros(1, np.float32)}, tmp_path / "model.safetensors")
    digest_model_folder(tmp_path)
    digest_model_folder(tmp_path)
    assert len(reads) == 1
    new_process()
    digest_model_folder(tmp_path)
    assert len(reads) == 2


@pytest.mark.parametrize("damage", ["", "{", "[1]", '{"of": 1}', "\x00"])
def test_a_damaged_cache_is_ignored(tmp_path: Path, new_process: Callable[[], None], damage: str) -> None:
    write(tmp_path, 1.0)
    first = digest_model_folder(tmp_path)
    (entry,) = (tmp_path / "cache").glob("weights/*.json")
    entry.write_text(damage)
    new_process()
    assert digest_model_folder(tmp_path) == first


@pytest.mark.parametrize("rows", [[["w"]], [1], 5])
def test_rows_of_another_shape_are_ignored(tmp_path: Path, new_process: Callable[[], None], rows: object) -> None:
    write(tmp_path, 1.0)
    first = digest_model_folder(tmp_path)
    (entry,) = (tmp_path / "cache").glob("weights/*.json")
    entry.write_text(json.dumps(json.loads(entry.read_text()) | {"found": rows}))
    new_process()
    assert digest_model_folder(tmp_path) == first


def test_off_leaves_nothing_behind(
    tmp_path: Path, reads: list[Path], new_process: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_CACHE", "off")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    write(tmp_path, 1.0)
    digest_model_folder(tmp_path)
    new_process()
    digest_model_folder(tmp_path)
    assert len(reads) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.usefixtures("new_process")
def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    write(tmp_path, 1.0)
    assert digest_model_folder(tmp_path).startswith("v2:")


@pytest.mark.usefixtures("new_process")
def test_runs_side_by_side_find_the_same(tmp_path: Path) -> None:
    write(tmp_path, 1.0)
    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(lambda _: digest_model_folder(tmp_path), range(32)))) == 1


def test_reading_ends_when_it_is_told_to(tmp_path: Path) -> None:
    stop = Event()
    stop.set()
    with pytest.raises(HarnessError, match="not read to its end"):
        read_weights([write(tmp_path, 1.0)], stop=stop)


def test_what_was_read_meanwhile_is_not_read_again(tmp_path: Path, reads: list[Path]) -> None:
    path = write(tmp_path, 1.0)
    variants = tuple(Variant(name=name, kind="base", model=str(tmp_path)) for name in ("one", "two"))
    with weights_read_meanwhile(variants):
        pass
    assert len(set(weights_digests(variants).values())) == 1
    assert first_not_finite((path,)) is None
    assert reads == [path]


def test_an_error_meanwhile_ends_the_reading_and_is_the_one_that_is_raised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, 1.0)
    stopped: list[bool] = []

    def reading_for_long(files: object, *, stop: Event) -> None:
        stopped.append(stop.wait(timeout=30))

    monkeypatch.setattr("harness.variants.folders.read_weights", reading_for_long)
    with (
        pytest.raises(InputError, match="another mistake"),
        weights_read_meanwhile((Variant(name="one", kind="base", model=str(tmp_path)),)),
    ):
        raise InputError("another mistake")
    assert stopped == [True]


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, 1.0)
    real = reading._read

    def changed_meanwhile(*arguments: object) -> object:
        path.touch()
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(reading, "_read", changed_meanwhile)
    with pytest.raises(InputError, match="changed while it was read"):
        read_weights([path])


@pytest.mark.parametrize(("available", "asked"), [(10**9, [(0, 16), (16, 16), (32, 16), (0, 16)]), (40, [])])
def test_files_are_read_ahead_as_long_as_there_is_memory_for_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, available: int, asked: list[tuple[int, int]]
) -> None:
    import psutil

    seen: list[tuple[int, int]] = []
    monkeypatch.setattr(reading, "_AHEAD", 16)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=available))
    monkeypatch.setattr(os, "posix_fadvise", lambda file, begin, size, advice: seen.append((begin, size)))
    files = [tmp_path / "one", tmp_path / "two"]
    for file, size in zip(files, (48, 9), strict=True):
        file.write_bytes(bytes(size))
    read_ahead(files)
    read_ahead([tmp_path / "gone"])
    assert seen == asked
