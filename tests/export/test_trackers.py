"""What the trackers' own stores contain afterwards, read with the trackers' own libraries.

Each export is a process of its own: trackio and W&B read the environment when they are imported.
"""

from __future__ import annotations

import json
import os
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from harness.export.figures import read_run
from harness.store.folder import RunFolder

REMOTE = "http://127.0.0.1:9"  # nothing listens there, so that an export which used it would fail


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


def export(run: RunFolder, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run the command in an environment that names servers for every tracker."""
    servers = {
        "MLFLOW_TRACKING_URI": REMOTE,
        "TRACKIO_SERVER_URL": REMOTE,
        "TRACKIO_SPACE_ID": "someone/space",
        "WANDB_MODE": "online",
        "WANDB_BASE_URL": REMOTE,
        "WANDB_RUN_ID": "one-for-all",
        "WANDB_API_KEY": "0" * 40,
    }
    return subprocess.run(
        [sys.executable, "-m", "harness", "export", str(run.root), *map(str, arguments)],
        env={**os.environ, **servers},
        capture_output=True,
        text=True,
        timeout=120,
    )


def done(run: RunFolder, *arguments: object) -> Path:
    """Export to a folder in the run folder, and return it."""
    said = export(run, *arguments)
    assert said.returncode == 0, said.stdout + said.stderr
    return run.root / "exports" / str(arguments[1])


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def assert_no_text(folder: Path, texts: list[str]) -> None:
    stored = contents(folder)
    assert len(stored) > 10_000
    assert not [text for text in texts if text.encode() in stored or json.dumps(text)[1:-1].encode() in stored]


@needs("mlflow")
def test_mlflow_has_every_value_and_setting(run: RunFolder, texts: list[str]) -> None:
    place = done(run, "--to", "mlflow")
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{place / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("medical-dialogue-harness")
    found = {one.info.run_name: one for one in client.search_runs([experiment.experiment_id])}
    exported = read_run(run)
    assert found.keys() == {"golden", *exported.variants}
    for variant in exported.variants:
        assert found[variant].data.metrics == pytest.approx(exported.values(variant), rel=1e-12)
        assert found[variant].data.params == exported.variant_settings(variant)
        assert found[variant].data.tags["mlflow.parentRunId"] == found["golden"].info.run_id
        assert found[variant].info.status == "FINISHED"
    assert found["golden"].data.params["config.generation.max_new_tokens"] == "48"
    assert found["golden"].data.tags["harness.numbers"] == exported.numbers
    assert [one.path for one in client.list_artifacts(found["golden"].info.run_id)] == ["summary.json"]
    assert_no_text(place, texts)


@needs("mlflow")
def test_mlflow_gets_the_page_only_if_asked(run: RunFolder) -> None:
    run.report_path.write_text("<p>page</p>")
    place = done(run, "--to", "mlflow")
    assert not list(place.rglob("report.html"))
    done(run, "--to", "mlflow", "--with-report")
    assert [path.read_text() for path in place.rglob("report.html")] == ["<p>page</p>"]


@needs("mlflow")
def test_an_mlflow_server_that_is_not_there_is_one_sentence(run: RunFolder) -> None:
    said = export(run, "--to", "mlflow", "--out", REMOTE)
    assert said.returncode == 4
    assert said.stderr.splitlines()[-1].startswith(f"Error: MLflow at {REMOTE} refused the run: ")
    assert "Traceback" not in said.stderr


@needs("trackio")
def test_trackio_has_every_value_and_setting(run: RunFolder, texts: list[str]) -> None:
    place = done(run, "--to", "trackio")
    with sqlite3.connect(place / "medical-dialogue-harness.db") as store:
        metrics = {name: json.loads(text) for name, text in store.execute("select run_name, metrics from metrics")}
        configs = {name: json.loads(text) for name, text in store.execute("select run_name, config from configs")}
    exported = read_run(run)
    assert metrics == {f"golden-{variant}": exported.values(variant) for variant in exported.variants}
    assert configs["golden-adapter"]["_Group"] == "golden"
    assert configs["golden-adapter"]["config.generation.max_new_tokens"] == "48"
    assert configs["golden-adapter"]["quantization"] == "nf4"
    assert_no_text(place, texts)


@needs("wandb")
def test_wandb_has_every_value_offline(run: RunFolder, texts: list[str]) -> None:
    place = done(run, "--to", "wandb")
    stored: dict[str, dict[str, Any]] = {}
    for path in place.rglob("*.wandb"):
        name, values = read_offline_run(path)
        stored[name] = {key: value for key, value in values.items() if not key.startswith("_")}
    exported = read_run(run)
    assert stored == {f"golden-{variant}": exported.values(variant) for variant in exported.variants}
    assert_no_text(place, texts)


def read_offline_run(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the name and the summary of an offline run."""
    from wandb.proto import wandb_internal_pb2

    name, values = "", {}
    for data in log_records(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        name = record.run.display_name or name
        assert not record.run.host  # this machine's name
        for item in record.summary.update:
            values[item.key or "/".join(item.nested_key)] = json.loads(item.value_json)
    return name, values


def log_records(data: bytes) -> Iterator[bytes]:
    """Yield the records of a LevelDB log, which is what an offline run is after its header of seven bytes.

    Blocks of 32 KiB; each part has a checksum (4 bytes), its length (2) and whether it is whole, first, middle or last.
    """
    place, parts = 7, b""
    while place + 7 <= len(data):
        left = 32_768 - place % 32_768
        if left < 7:
            place += left
            continue
        length, kind = struct.unpack_from("<HB", data, place + 4)
        if kind == 0:  # the rest of the block is empty
            place += left
            continue
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):
            yield parts
            parts = b""
