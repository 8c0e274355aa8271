"""A first thresholds file: the run it was made from passes it, and a clearly worse one does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import HarnessError, InputError
from harness.gating.gate import gate
from harness.gating.policy import load_policy
from harness.gating.thresholds_init import least_gain, rounded, write_thresholds
from harness.store.folder import RunFolder
from tests.run_folders import make_run, random_values


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    tokens = {name: [5 + 0.01 * number for number in range(16)] for name in ("base", "adapter", "merged")}
    rss = {name: [800.0, 801.0] for name in tokens}
    folder = tmp_path_factory.mktemp("init") / "run"
    return make_run(folder, random_values(120), tokens_ms=tokens, rss_mib=rss)


def test_the_run_passes_the_file_made_from_it(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    count = write_thresholds(run.root, out)
    result = gate(run.root, out)
    assert {check.id: check.sentence for check in result.checks if check.verdict != "pass"} == {}
    assert result.exit_code == 0
    assert len(result.checks) == count
    ids = [check.id for check in result.checks]
    assert ids == [
        "quality-rouge-l-gain",
        "quality-nll-gain",
        "quality-empty",
        "latency-ttft-ms-p50",
        "latency-tpot-ms-p50",
        "memory-peak-rss-mib",
    ]


def test_a_worse_run_fails_it(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    write_thresholds(run.root, out)
    worse = make_run(
        tmp_path / "worse",
        random_values(120, gain=-0.5),
        tokens_ms={name: [7 + 0.01 * number for number in range(16)] for name in ("base", "adapter", "merged")},
        rss_mib={name: [950.0, 951.0] for name in ("base", "adapter", "merged")},
    )
    result = gate(worse.root, out)
    assert result.exit_code == 1
    assert {check.id for check in result.checks if check.verdict == "fail"} >= {
        "quality-nll-gain",
        "latency-tpot-ms-p50",
        "memory-peak-rss-mib",
    }


@pytest.mark.parametrize(
    ("gain", "least", "limit"),
    [(4.125, 4.0, 2.9), (1.0, 0.95, 0.7), (1.0, 0.613, 0.61), (1.0, 0.7001, 0.7)],
)
def test_at_least_seventy_percent_of_a_gain_is_asked_and_no_more_than_the_run_shows(
    gain: float, least: float, limit: float
) -> None:
    assert float(least_gain(gain, least)) == limit


def test_an_adapter_with_a_fraction_of_the_gain_fails_it(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    write_thresholds(run.root, out)
    weaker = make_run(tmp_path / "weaker", random_values(120, gain=0.2 * 0.3))
    failed = {check.id for check in gate(weaker.root, out).checks if check.verdict == "fail"}
    assert failed == {"quality-rouge-l-gain", "quality-nll-gain"}


def test_what_was_not_gained_must_not_be_lost(tmp_path: Path) -> None:
    run = make_run(tmp_path / "equal", random_values(120, gain=0.0))
    write_thresholds(run.root, tmp_path / "thresholds.yaml")
    ids = [check.id for check in load_policy(tmp_path / "thresholds.yaml").checks]
    assert ids[:2] == ["quality-rouge-l-not-worse", "quality-nll-not-worse"]


def test_a_limit_that_nothing_can_miss_is_not_written(tmp_path: Path) -> None:
    always = [1.0] * 120
    values = {name: {**random_values(120)[name], "safety.missed_emergency": always} for name in ("base", "adapter")}
    write_thresholds(make_run(tmp_path / "cut", values).root, tmp_path / "thresholds.yaml")
    metrics = [check.metric for check in load_policy(tmp_path / "thresholds.yaml").checks]
    assert "quality.empty" in metrics
    assert "safety.missed_emergency" not in metrics


def test_the_candidate_stands_once(run: RunFolder, tmp_path: Path) -> None:
    write_thresholds(run.root, tmp_path / "thresholds.yaml")
    assert (tmp_path / "thresholds.yaml").read_text().count("candidate: adapter") == 1


@pytest.mark.parametrize(("first", "then"), [("merged", "adapter"), ("adapter", "merged")])
def test_a_fresh_file_judges_another_candidate_than_the_one_it_was_made_for(
    tmp_path: Path, first: str, then: str
) -> None:
    run = make_run(tmp_path / "run", random_values(120), kl={"merged": [0.001 + 0.00001 * n for n in range(120)]})
    write_thresholds(run.root, tmp_path / "t.yaml", candidate=first)
    result = gate(run.root, tmp_path / "t.yaml", candidate=then)
    assert {check.id: check.sentence for check in result.checks if check.verdict == "error"} == {}
    assert {check.candidate for check in result.checks if check.metric != "fidelity.kl"} == {then}
    assert result.check("fidelity-kl-merged").candidate == "merged"


def test_every_line_says_what_was_measured(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    write_thresholds(run.root, out, candidate="merged")
    text = out.read_text(encoding="utf-8")
    assert load_policy(out).policy.candidate == "merged"
    assert "over 120 dialogues; lower is better" in text
    assert "holds on this machine and workload only" in text
    assert "baseline: main" in text


def test_few_dialogues_are_said_to_be_few(tmp_path: Path) -> None:
    left_out = ["d0000", "d0001", "d0002"]
    run = make_run(tmp_path / "run", random_values(60), unanswered={"base": left_out, "adapter": left_out})
    write_thresholds(run.root, tmp_path / "t.yaml")
    text = (tmp_path / "t.yaml").read_text(encoding="utf-8")
    assert "min_samples: 57   # dialogues, a small sample" in text
    assert "min_coverage: 0.95" in text
    assert gate(run.root, tmp_path / "t.yaml").exit_code == 0


@pytest.mark.parametrize("number", [3, 70])
def test_a_candidate_that_left_out_what_the_reference_answered_does_not_pass(tmp_path: Path, number: int) -> None:
    left_out = [f"d{index:04d}" for index in range(number)]
    run = make_run(tmp_path / "run", random_values(80), unanswered={"adapter": left_out})
    write_thresholds(run.root, tmp_path / "t.yaml", candidate="adapter")
    text = (tmp_path / "t.yaml").read_text(encoding="utf-8")
    share = f"{(80 - number) / 80:.1%}"
    assert f"min_coverage: 0.99   # this run does not meet it. Answered: adapter {share}, base 100.0%" in text
    assert gate(run.root, tmp_path / "t.yaml").exit_code == 4


def test_a_run_that_answered_little_does_not_pass_though_its_variants_left_out_the_same(tmp_path: Path) -> None:
    left_out = [f"d{index:04d}" for index in range(20)]
    run = make_run(tmp_path / "run", random_values(80), unanswered=dict.fromkeys(("base", "adapter"), left_out))
    write_thresholds(run.root, tmp_path / "t.yaml", candidate="adapter")
    assert "min_coverage: 0.99   # this run does not" in (tmp_path / "t.yaml").read_text(encoding="utf-8")


def test_a_run_whose_replies_are_all_empty_fails_the_file_made_from_it(tmp_path: Path) -> None:
    values = random_values(120)
    for metrics in values.values():
        metrics["quality.empty"] = [1.0] * 120
    run = make_run(tmp_path / "run", values)
    write_thresholds(run.root, tmp_path / "t.yaml")
    assert "as bad as it can be" in (tmp_path / "t.yaml").read_text(encoding="utf-8")
    result = gate(run.root, tmp_path / "t.yaml")
    assert [check.id for check in result.checks if check.verdict == "fail"] == ["quality-empty"]
    assert result.exit_code == 1


def test_a_file_that_is_there_is_not_replaced_unasked(run: RunFolder, tmp_path: Path) -> None:
    out = tmp_path / "thresholds.yaml"
    out.write_text("mine")
    with pytest.raises(InputError, match="--force"):
        write_thresholds(run.root, out)
    assert out.read_text() == "mine"
    write_thresholds(run.root, out, force=True)


def test_an_unfinished_run_and_an_unknown_candidate_are_refused(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'adapter'"):
        write_thresholds(run.root, tmp_path / "t.yaml", candidate="adaptr")
    unfinished = make_run(tmp_path / "unfinished", random_values(5), state="running")
    with pytest.raises(HarnessError, match="from a complete one"):
        write_thresholds(unfinished.root, tmp_path / "t.yaml")


@pytest.mark.parametrize(
    ("value", "up", "text"),
    [
        (0.0304, True, "0.031"),
        (0.0304, False, "0.030"),
        (1234.0, True, "1300.0"),
        (-0.0304, True, "-0.030"),
        (0.0, True, "0.0"),
        (3.2e-7, True, "0.00000032"),
        (2.31, False, "2.3"),
    ],
)
def test_limits_are_rounded_away_from_what_was_measured(value: float, up: bool, text: str) -> None:
    assert rounded(value, up=up) == text
    assert (float(text) >= value) if up else (float(text) <= value)


def test_variants_of_like_names_get_checks_of_different_ids(tmp_path: Path) -> None:
    values = random_values(120, variants=("base", "adapter", "m.1", "m-1"))
    kl = {name: [0.001 + 0.00001 * number for number in range(120)] for name in ("m.1", "m-1")}
    run = make_run(tmp_path / "run", values, kl=kl)
    write_thresholds(run.root, tmp_path / "t.yaml", candidate="adapter")
    ids = [check.id for check in load_policy(tmp_path / "t.yaml").checks]
    assert ids[-2:] == ["fidelity-kl-m-1", "fidelity-kl-m-1-2"]
    assert gate(run.root, tmp_path / "t.yaml").exit_code == 0


def test_a_folder_s_name_cannot_add_a_line_to_the_file(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run\nchecks: []\n#", random_values(60))
    write_thresholds(run.root, tmp_path / "t.yaml")
    assert len(load_policy(tmp_path / "t.yaml").checks) > 1
