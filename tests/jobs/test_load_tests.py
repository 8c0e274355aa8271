"""Results of other tools' load tests: what is taken from each format, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.config import LatencyConfig, RunConfig
from harness.errors import InputError
from harness.jobs.load_tests import read_load_tests
from harness.jobs.runner import run
from harness.passes.keys import config_digest
from harness.store.folder import RunFolder
from reports.load_tests import load_test_rows
from reports.render import render
from reports.view import read_view
from tests.passes.test_registry import Opened, asked

VLLM = {
    "model_id": "mine", "request_rate": "inf", "max_concurrency": 8, "completed": 100, "failed": 2,
    "output_throughput": 505.5, "median_ttft_ms": 105.0, "p99_ttft_ms": 310.0, "median_tpot_ms": 31.0,
    "p99_tpot_ms": 46.0, "median_itl_ms": 30.0, "p99_itl_ms": 52.0,
}  # fmt: skip
AIPERF = {
    "input_config": {"endpoint": {"model_names": ["mine"]}, "loadgen": {"request_rate": 5.0}},
    "request_count": {"unit": "requests", "avg": 10.0},
    "time_to_first_token": {"unit": "ms", "avg": 195.8, "p50": 175.0, "p99": 253.4},
    "inter_token_latency": {"unit": "ms", "avg": 35.2, "p50": 34.7, "p99": 35.9},
    "request_latency": {"unit": "ms", "avg": 2400.0, "p50": 2380.0, "p99": 2500.0},
    "output_token_throughput": {"unit": "tokens/sec", "avg": 52.7},
}


def guidellm_metric(p50: float, p99: float) -> dict[str, Any]:
    return {"successful": {"mean": p50, "median": p50, "percentiles": {"p50": p50, "p99": p99}}}


GUIDELLM = {
    "metadata": {"version": 1},
    "args": {"model": "mine"},
    "benchmarks": [
        {
            "config": {"strategy": {"type_": kind, **rate}},
            "metrics": {
                "request_totals": {"successful": 44, "errored": 5, "incomplete": 1, "total": 50},
                "time_to_first_token_ms": guidellm_metric(90.0, 200.0),
                "inter_token_latency_ms": guidellm_metric(3.0, 9.0),
                "request_latency": guidellm_metric(1.5, 2.5),
                "output_tokens_per_second": guidellm_metric(247.0, 300.0),
            },
        }
        for kind, rate in (("concurrent", {"streams": 4}), ("constant", {"rate": 2.0}))
    ],
}


@pytest.mark.parametrize(
    ("content", "tool", "load", "completed", "failed", "ttft", "itl", "e2e", "rate"),
    [
        (VLLM, "vllm bench serve", "8 at once", 100, 2, (105.0, 310.0), (30.0, 52.0), (None, None), 505.5),
        (AIPERF, "aiperf", "5.0 requests/s", 10, None, (175.0, 253.4), (34.7, 35.9), (2380.0, 2500.0), 52.7),
        (GUIDELLM, "guidellm", "4 at once", 44, 5, (90.0, 200.0), (3.0, 9.0), (1500.0, 2500.0), 247.0),
    ],
)
def test_each_tools_figures_are_taken_over_in_milliseconds(
    content: Any,
    tool: str,
    load: str,
    completed: int,
    failed: Any,
    ttft: Any,
    itl: Any,
    e2e: Any,
    rate: float,
    tmp_path: Path,
) -> None:
    (tmp_path / "result.json").write_text(json.dumps(content))
    found = read_load_tests(["result.json"], tmp_path)[0]
    assert (found["tool"], found["file"], found["model"], found["load"]) == (tool, "result.json", "mine", load)
    assert (found["completed"], found["failed"], found["tokens_per_s"]) == (completed, failed, rate)
    assert [(found[f"{name}_p50"], found[f"{name}_p99"]) for name in ("ttft", "itl", "e2e")] == [ttft, itl, e2e]


def test_a_guidellm_file_has_one_test_a_load(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(GUIDELLM))
    assert [one["load"] for one in read_load_tests(["result.json"], tmp_path)] == ["4 at once", "2 requests/s"]


@pytest.mark.parametrize("content", ["{}", '{"benchmarks": []}', '{"median": 3}'])
def test_a_file_of_none_of_the_tools_is_refused(content: str, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(content)
    with pytest.raises(InputError, match="is no result of guidellm, aiperf, vllm bench serve"):
        read_load_tests(["result.json"], tmp_path)


def imported(config: RunConfig, *paths: str) -> RunConfig:
    latency = config.latency.model_copy(update={"imported": paths})
    return config.model_copy(update={"latency": latency})


def test_one_file_or_several_are_named_under_import() -> None:
    assert LatencyConfig.model_validate({"import": "a.json"}).imported == ("a.json",)
    assert LatencyConfig.model_validate({"import": ["a.json", "b.json"]}).imported == ("a.json", "b.json")


def test_a_finished_run_takes_a_load_test_without_measuring_again(tmp_path: Path) -> None:
    config = asked(tmp_path / "in", "generation", names=("base",))
    run(config, tmp_path / "run", backends=Opened())
    (tmp_path / "result.json").write_text(json.dumps(VLLM))
    more = imported(config, str(tmp_path / "result.json"))
    assert config_digest(more) == config_digest(config)
    again = Opened()
    folder = run(more, tmp_path / "run", backends=again)
    assert again.by_name == {}
    (row,) = load_test_rows(read_view(RunFolder(folder.root)))
    assert row[:4] == ("vllm bench serve: result.json", "mine", "8 at once", "100, 2 failed")
    page = render(folder)
    assert "load tests of other tools" in page
    run(config, tmp_path / "run", backends=Opened())
    assert "load_tests" not in folder.read_manifest().provenance


def test_a_model_that_is_a_folder_is_named_without_its_path(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps({**VLLM, "model_id": "/home/jane/models/mine"}))
    assert read_load_tests(["result.json"], tmp_path)[0]["model"] == "mine"
