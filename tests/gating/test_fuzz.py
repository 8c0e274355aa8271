"""Garbage in thresholds and run folders: always one sentence or a verdict, never a traceback, never exit code 0."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness.errors import HarnessError
from harness.gating.gate import gate
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values, reseal

QUIET = settings(deadline=None, max_examples=30, suppress_health_check=list(HealthCheck))
GOOD: dict[str, Any] = {
    "version": 1,
    "candidate": "adapter",
    "defaults": {"min_samples": 10, "confidence": 0.95},
    "checks": [
        {"id": "a", "metric": "quality.nll", "non_inferiority": {"margin": 0.05}, "against": {"variant": "base"}},
        {"id": "b", "metric": "quality.empty", "max": 0.5, "slice": {"source": "x"}, "must_pass": ["d0001"]},
        {"id": "c", "metric": "quality.rouge_l", "no_regression": {"max_drop": 0.01}, "against": {"baseline": "main"}},
    ],
}
KEYS = st.sampled_from(
    ["version", "candidate", "defaults", "checks", "id", "metric", "min", "max", "margin", "against", "variant",
     "baseline", "slice", "must_pass", "severity", "judge", "confidence", "non_inferiority", "on_inconclusive"]
)  # fmt: skip
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        ["adapter", "base", "quality.nll", "main", "warn", "point", "pass", "\ud800", "x" * 300, "../main"]
    ),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, Path]:
    root = tmp_path_factory.mktemp("fuzz")
    values = random_values(60, variants=("base", "adapter"))
    columns = {"source": ["x" if number % 2 else "y" for number in range(60)]}
    tokens = {name: [5 + 0.01 * number for number in range(16)] for name in values}
    run = make_run(root / "run", values, columns=columns, tokens_ms=tokens, resamples=100)
    shutil.copytree(run.root, root / "baselines" / "main")
    return run, root


def judged(run: RunFolder, root: Path, text: str | bytes) -> int:
    """Return the exit code; an exception that is not the project's own fails the test."""
    path = root / "thresholds.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text)
    try:
        return gate(run.root, path, baselines=root / "baselines").exit_code
    except HarnessError as error:
        return error.exit_code if str(error) else -1


def test_what_the_fuzzing_starts_from_passes(folders: tuple[RunFolder, Path]) -> None:
    assert judged(*folders, yaml.safe_dump(GOOD)) == 0


@QUIET
@given(st.binary(max_size=200) | st.text(max_size=200))
@example("")
@example("version: 1")
@example("version: 1\nchecks: []")
@example("a: &a [*a]")
@example("? [a]\n: b")
@example("version: 1\nchecks: [{id: a, metric: quality.nll, max: 1" + "0" * 400 + "}]")
@example("[" * 3000)
@example("version: 2001-13-45")
@example("<<: 1\nversion: 1")
def test_a_file_of_garbage_never_passes(folders: tuple[RunFolder, Path], text: str | bytes) -> None:
    assert judged(*folders, text) in (2, 4)


def places(value: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


def replaced(value: Any, at: tuple[Any, ...], new: Any) -> Any:
    if not at:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[at[0]] = replaced(copy[at[0]], at[1:], new)
    return copy


@QUIET
@given(st.data())
def test_a_valid_file_with_one_value_replaced_passes_only_where_it_still_checks(
    folders: tuple[RunFolder, Path], data: st.DataObject
) -> None:
    at = data.draw(st.sampled_from(list(places(GOOD))))
    new = data.draw(VALUES)
    changed = replaced(GOOD, at, new)
    code = judged(*folders, json.dumps(changed))
    assert code in (0, 1, 2, 3, 4)
    if code == 0:
        assert isinstance(changed, dict)
        assert isinstance(changed["checks"], list)
        assert changed["checks"]


MEASURED = [
    "dialogues.jsonl",
    "summary.json",
    "replies/adapter.jsonl",
    "replies/base.jsonl",
    "records/latency/base.jsonl",
]


def copied(folders: tuple[RunFolder, Path]) -> RunFolder:
    target = folders[1] / "copy"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folders[0].root, target)
    return RunFolder(target)


@QUIET
@given(st.sampled_from(MEASURED), st.floats(0, 1), st.binary(min_size=1, max_size=8), st.booleans())
def test_a_damaged_file_is_never_a_pass(
    folders: tuple[RunFolder, Path], name: str, where: float, noise: bytes, cut: bool
) -> None:
    run = copied(folders)
    data = (run.root / name).read_bytes()
    position = int(where * (len(data) - 1))
    changed = data[:position] if cut else data[:position] + noise + data[position + len(noise) :]
    if changed == data:
        return
    (run.root / name).write_bytes(changed)
    assert judged(run, folders[1], yaml.safe_dump(GOOD)) == 4


@QUIET
@given(st.data())
def test_a_run_json_of_garbage_is_never_a_traceback(folders: tuple[RunFolder, Path], data: st.DataObject) -> None:
    run = copied(folders)
    manifest = json.loads(run.manifest_path.read_text())
    at = data.draw(st.sampled_from([place for place in places(manifest) if place]))
    run.manifest_path.write_text(json.dumps(replaced(manifest, at, data.draw(VALUES))))
    code = judged(run, folders[1], yaml.safe_dump(GOOD))
    assert code in (0, 1, 2, 3, 4)
    if at[0] in ("state", "digests", "schema", "config_digest") and code == 0:
        assert json.loads(run.manifest_path.read_text())["state"] == "complete"


@QUIET
@given(st.data())
def test_resealed_garbage_is_never_a_traceback(folders: tuple[RunFolder, Path], data: st.DataObject) -> None:
    run = copied(folders)
    name = data.draw(st.sampled_from(MEASURED))
    path = run.root / name
    lines = path.read_text().splitlines() if name.endswith("jsonl") else [path.read_text()]
    number = data.draw(st.integers(0, len(lines) - 1))
    row = json.loads(lines[number])
    at = data.draw(st.sampled_from(list(places(row))))
    lines[number] = json.dumps(replaced(row, at, data.draw(VALUES)))
    path.write_text("\n".join(lines) + "\n")
    try:
        reseal(run)
    except HarnessError:  # dialogues that cannot be read cannot be sealed either
        return
    assert judged(run, folders[1], yaml.safe_dump(GOOD)) in (0, 1, 2, 3, 4)


@QUIET
@given(st.lists(st.sampled_from([*MEASURED, "run.json", "replies", "records"]), min_size=1, max_size=3))
def test_a_folder_with_files_missing_is_never_a_pass(folders: tuple[RunFolder, Path], names: list[str]) -> None:
    run = copied(folders)
    for name in names:
        path = run.root / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    assert judged(run, folders[1], yaml.safe_dump(GOOD)) in (2, 4)
