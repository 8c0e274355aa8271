"""The paths that every run takes: batching, statistics, summary, rendering, start-up. Compare commits with
``tox run -e bench -- --benchmark-compare``."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
from pytest_benchmark.fixture import BenchmarkFixture

from harness.backends.local.batches import batches, longest_first
from harness.metrics.loading import all_specs
from harness.results.summarize import summarize
from harness.stats.bootstrap import Resamples, bca
from harness.stats.samples import from_values, ratio_of_sums
from harness.store.folder import RunFolder
from reports.render import render
from tests.run_folders import make_run, random_values
from tests.stats.ask import difference, estimate

DIALOGUES = 1000


@dataclass(frozen=True)
class Sized:
    """Stands for a tokenised dialogue."""

    tokens: int

    def __len__(self) -> int:
        return self.tokens


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A finished run of 3 variants × 1,000 dialogues."""
    return make_run(tmp_path_factory.mktemp("bench") / "run", random_values(DIALOGUES), resamples=10_000)


def test_batching_ten_thousand_dialogues(benchmark: BenchmarkFixture) -> None:
    lengths = np.random.default_rng(0).integers(30, 900, 10_000)
    items = [Sized(int(length)) for length in lengths]
    made = benchmark(lambda: list(batches(longest_first(items), 16_384)))
    assert sum(len(batch) for batch in made) == len(items)


def test_estimate_of_a_mean(benchmark: BenchmarkFixture) -> None:
    values = np.random.default_rng(0).exponential(size=DIALOGUES)
    samples = from_values([str(n) for n in range(DIALOGUES)], values)
    assert benchmark(lambda: estimate(samples, resamples=10_000, seed=1)).n == DIALOGUES


def test_a_further_mean_of_the_same_dialogues(benchmark: BenchmarkFixture) -> None:
    values = np.random.default_rng(0).exponential(size=DIALOGUES)
    statistics = np.column_stack([values, np.ones(DIALOGUES)])
    resamples = Resamples(DIALOGUES)
    resamples.sums(statistics)  # the first metric pays for drawing
    assert benchmark(lambda: bca(statistics, ratio_of_sums, resamples.sums(statistics))) is not None


def test_scipys_interval_of_the_same_mean(benchmark: BenchmarkFixture) -> None:
    """The same BCa interval by ``scipy.stats.bootstrap``, which draws again for each metric."""
    values = np.random.default_rng(0).exponential(size=DIALOGUES)
    rng = np.random.default_rng(1)
    found = benchmark.pedantic(
        lambda: scipy.stats.bootstrap((values,), np.mean, n_resamples=10_000, method="BCa", batch=500, rng=rng),
        rounds=3,
    )
    assert found.confidence_interval.low < values.mean()


def test_paired_difference_of_means(benchmark: BenchmarkFixture) -> None:
    generator = np.random.default_rng(0)
    ids = [str(n) for n in range(DIALOGUES)]
    one, other = (from_values(ids, generator.normal(size=DIALOGUES)) for _ in range(2))
    found = benchmark(lambda: difference(one, other, higher_is_better=True, resamples=10_000, seed=1))
    assert found.n == DIALOGUES


def test_summary_of_a_run(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    summary = benchmark.pedantic(lambda: summarize(run, registry=all_specs()), rounds=3)
    assert summary.metrics["quality.nll"].variants["base"].n == DIALOGUES


def test_rendering_the_page(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    page = benchmark.pedantic(lambda: render(run), rounds=3)
    assert "</html>" in page


def test_reading_a_run_s_replies(benchmark: BenchmarkFixture, run: RunFolder) -> None:
    assert len(benchmark(lambda: run.replies("adapter"))) == DIALOGUES


@pytest.mark.parametrize("command", [["--help"], ["metrics"]], ids=["help", "metrics"])
def test_starting_the_command_line(benchmark: BenchmarkFixture, command: list[str]) -> None:
    line = [sys.executable, "-m", "harness", *command]
    benchmark.pedantic(lambda: subprocess.run(line, check=True, capture_output=True), rounds=5, warmup_rounds=1)


def test_rendering_from_the_command_line(benchmark: BenchmarkFixture, run: RunFolder, tmp_path: Path) -> None:
    copy = RunFolder(shutil.copytree(run.root, tmp_path / "copy"))
    line = [sys.executable, "-m", "harness", "report", str(copy.root)]
    benchmark.pedantic(lambda: subprocess.run(line, check=True, capture_output=True), rounds=3)
    assert copy.report_path.exists()
