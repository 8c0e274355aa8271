"""The gate on 3 variants × 1,000 dialogues: the command as a CI calls it, and its parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from harness.gating.gate import gate
from harness.gating.markdown import markdown
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values

THRESHOLDS = """
version: 1
candidate: adapter
checks:
  - {id: learned, metric: quality.nll, max: -0.05, against: {variant: base}}
  - {id: overlap, metric: quality.rouge_l, no_regression: {max_drop: 0.01}, against: {variant: base}}
  - {id: merged, metric: quality.nll, candidate: merged, equivalence: {margin: 0.3}, against: {variant: adapter}}
  - {id: empty, metric: quality.empty, max: 0.1}
  - {id: speed, metric: latency.tpot_ms.p50, max: 1.5, against: {variant: base}, min_samples: 8}
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    tokens = {name: [5 + 0.01 * number for number in range(48)] for name in ("base", "adapter", "merged")}
    folder = tmp_path_factory.mktemp("gate") / "run"
    made = make_run(folder, random_values(1000), tokens_ms=tokens, resamples=10_000)
    (folder.parent / "thresholds.yaml").write_text(THRESHOLDS)
    return made


def thresholds(run: RunFolder) -> Path:
    return run.root.parent / "thresholds.yaml"


def test_the_command_as_a_ci_calls_it(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    command = [sys.executable, "-m", "harness", "gate", str(run.root), "--thresholds", str(thresholds(run))]
    benchmark.pedantic(lambda: subprocess.run(command, capture_output=True, check=True), rounds=5, warmup_rounds=1)


def test_judging_in_a_running_process(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    result = benchmark.pedantic(lambda: gate(run.root, thresholds(run)), rounds=5, warmup_rounds=1)
    assert result.exit_code == 0


def test_writing_markdown(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    result = gate(run.root, thresholds(run), write=False)
    many = result.model_copy(update={"checks": result.checks * 100})
    assert len(benchmark(markdown, many)) <= 65_000
