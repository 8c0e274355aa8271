"""``gate`` on whole run folders: exit codes, names that do not exist, baselines, and what it leaves behind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from harness.errors import InputError
from harness.files import write_model, write_rows
from harness.gating import outputs
from harness.gating.gate import gate
from harness.gating.verdict import GateResult
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricSpec
from harness.results.summarize import summarize
from harness.store.baselines import Baselines
from harness.store.folder import RunFolder
from harness.store.schema import MemoryRecord
from tests.run_folders import change_manifest, make_run, random_values, reseal

NOON = datetime(2025, 1, 2, 12, tzinfo=UTC)
AGAINST = {"against": {"variant": "base"}}
BASELINE = {"against": {"baseline": "main"}}
GOOD = {"metric": "quality.nll", "non_inferiority": {"margin": 0.05}, **AGAINST}


class Gate:
    """Judges runs in a temporary folder by checks given as dictionaries."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.baselines = folder / "baselines"

    def thresholds(self, *checks: dict[str, Any], **more: Any) -> Path:
        named = [{"id": f"c{number}", **check} for number, check in enumerate(checks)]
        path = self.folder / "thresholds.yaml"
        path.write_text(yaml.safe_dump({"version": 1, "candidate": "adapter", "checks": named, **more}))
        return path

    def __call__(self, run: RunFolder, *checks: dict[str, Any], **more: Any) -> GateResult:
        asked = {key: more.pop(key) for key in ("baseline", "candidate") if key in more}
        path = self.thresholds(*checks, **more)
        return gate(run.root, path, baselines=self.baselines, now=NOON, **asked)

    def accept(self, run: RunFolder, name: str = "main", **more: Any) -> None:
        Baselines(self.baselines).accept(run.root, name, "for a test", **more)


@pytest.fixture
def judge(tmp_path: Path) -> Gate:
    return Gate(tmp_path)


@pytest.fixture(scope="module")
def shared_run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Return one run that tests only read (and gate)."""
    generator = np.random.default_rng(1)
    tokens = {name: list(generator.normal(5, 0.1, 16)) for name in ("base", "adapter", "merged")}
    rss = {"base": [800.0, 801.0], "adapter": [820.0, 822.0], "merged": [800.0, 802.0]}
    condition = ["asthma" if number % 3 else "gout" for number in range(120)]
    folder = tmp_path_factory.mktemp("run") / "run"
    return make_run(folder, tokens_ms=tokens, rss_mib=rss, columns={"condition": condition})


@pytest.mark.parametrize(
    ("checks", "defaults", "verdict", "code"),
    [
        ([GOOD], {}, "pass", 0),
        ([{"metric": "quality.nll", "max": 1.0}], {}, "fail", 1),
        ([GOOD], {"min_samples": 121}, "inconclusive", 3),
        ([GOOD], {"min_samples": 121, "on_inconclusive": "pass"}, "inconclusive", 0),
        ([{"metric": "quality.bleu", "min": 0}], {}, "error", 4),
        ([], {}, "error", 4),
        ([{"metric": "quality.nll", "max": 1.0}, {"metric": "quality.bleu", "min": 0}], {}, "fail", 1),
        ([{"metric": "quality.nll", "max": 1.0, "severity": "warn"}, GOOD], {}, "pass", 0),
        ([{"metric": "quality.bleu", "min": 0, "severity": "warn"}, GOOD], {}, "error", 4),
    ],
)
def test_the_exit_code_matrix(
    judge: Gate, shared_run: RunFolder, checks: list[dict[str, Any]], defaults: dict[str, Any], verdict: str, code: int
) -> None:
    result = judge(shared_run, *checks, defaults=defaults)
    assert (result.verdict, result.exit_code) == (verdict, code)
    assert outputs.read(shared_run.root / "gate.json") == result


def test_checks_that_are_absent_are_an_error(judge: Gate, shared_run: RunFolder) -> None:
    for text in ("version: 1\ncandidate: adapter\n", "version: 1\ncandidate: adapter\nchecks:\n"):
        path = judge.folder / "thresholds.yaml"
        path.write_text(text)
        result = gate(shared_run.root, path)
        assert (result.exit_code, result.problems[0].endswith("has no checks: nothing was judged.")) == (4, True)


@pytest.mark.parametrize(
    ("check", "said"),
    [
        (
            {"metric": "quality.rouge_1l", "min": 0},
            "line 4: there is no metric 'quality.rouge_1l'. Did you mean 'quality.rouge_l'",
        ),
        ({**GOOD, "against": {"variant": "bsae"}}, "the run has no variant 'bsae'. Did you mean 'base'?"),
        ({**GOOD, "candidate": "adaptr"}, "the run has no variant 'adaptr'. Did you mean 'adapter'?"),
        ({**GOOD, "against": {"variant": "adapter"}}, "compared with itself"),
        ({**GOOD, "slice": {"conditoin": "gout"}}, "no column 'conditoin'. Did you mean 'condition'?"),
        ({"metric": "quality.nll", "no_regression": {"max_drop": 0}}, "needs something to compare with"),
        ({**GOOD, **BASELINE}, "There is no baseline 'main'"),
        ({"metric": "quality.length_ratio", "no_regression": {"max_drop": 0}, **AGAINST}, "has no better direction"),
        ({"metric": "latency.ttft_ms.p50", "non_inferiority": {"margin": 2}, **AGAINST}, "give 'margin_relative'"),
        ({"metric": "latency.ttft_ms.p50", "max": 9, "must_pass": ["d0000"]}, "no value for a single dialogue"),
        ({"metric": "quality.nll", "equivalence": {"margin_relative": 0.1}, **AGAINST}, "give 'margin'"),
        ({"metric": "memory.peak_rss_mib", "max": 9, "slice": {"condition": "gout"}}, "'slice' does not apply"),
    ],
)
def test_what_does_not_exist_or_means_nothing_is_refused(
    judge: Gate, shared_run: RunFolder, check: dict[str, Any], said: str
) -> None:
    with pytest.raises(InputError) as raised:
        judge(shared_run, check)
    assert said in str(raised.value)
    assert "thresholds.yaml, line" in str(raised.value)


def test_the_candidate_is_looked_up(judge: Gate, shared_run: RunFolder) -> None:
    assert judge(shared_run, GOOD, candidate="merged").checks[0].candidate == "merged"
    with pytest.raises(InputError, match=r"--candidate: the run has no variant 'mergd'. Did you mean 'merged'\?"):
        judge(shared_run, GOOD, candidate="mergd")
    path = judge.folder / "thresholds.yaml"
    path.write_text("version: 1\nchecks: [{id: a, metric: quality.nll, max: 9}]\n")
    with pytest.raises(InputError, match="name the variant to judge"):
        gate(shared_run.root, path)


def test_a_refused_question_leaves_the_earlier_verdict_as_it_was(judge: Gate, shared_run: RunFolder) -> None:
    judge(shared_run, GOOD)
    before = [(shared_run.root / name).read_bytes() for name in outputs.FILES]
    with pytest.raises(InputError):
        judge(shared_run, {"metric": "quality.none", "min": 0})
    assert [(shared_run.root / name).read_bytes() for name in outputs.FILES] == before


def test_slices_hold_only_their_dialogues(judge: Gate, shared_run: RunFolder) -> None:
    result = judge(
        shared_run,
        {**GOOD, "slice": {"condition": "asthma"}, "min_samples": 50},
        {**GOOD, "slice": {"condition": "gout"}, "min_samples": 30},
        {**GOOD, "slice": {"condition": "flu"}},
    )
    assert [(check.n, check.verdict) for check in result.checks] == [(80, "pass"), (40, "pass"), (0, "error")]


def test_a_relative_margin_is_a_share_of_the_other_value(judge: Gate, shared_run: RunFolder) -> None:
    tight, wide = (
        judge(
            shared_run,
            {
                "metric": "quality.nll",
                "non_inferiority": {"margin_relative": share},
                "candidate": "base",
                "against": {"variant": "adapter"},
            },
        ).checks[0]
        for share in (0.05, 0.12)
    )
    assert (tight.verdict, wide.verdict) == ("fail", "pass")
    assert wide.scaled_other == pytest.approx(1.12)
    assert wide.requirement == "quality.nll ≤ 1.12 × adapter's"
    gap = wide.candidate_value - 1.12 * wide.other_value  # type: ignore[operator]
    assert wide.value == pytest.approx(gap)


def test_memory_is_judged_by_its_repeats(judge: Gate, shared_run: RunFolder) -> None:
    result = judge(shared_run, {"metric": "memory.peak_rss_mib", "max": 821}).checks[0]
    assert (result.verdict, result.low, result.high, result.n) == ("inconclusive", 820, 822, 2)


@pytest.mark.parametrize(("repeats", "verdict"), [(2, "inconclusive"), (3, "inconclusive"), (4, "fail")])
def test_memory_is_compared_where_its_repeats_could_decide(
    judge: Gate, tmp_path: Path, repeats: int, verdict: str
) -> None:
    rss = {"base": [800.0 + one for one in range(repeats)], "adapter": [820.0 + one for one in range(repeats)]}
    run = make_run(tmp_path, rss_mib=rss)
    check = {"metric": "memory.peak_rss_mib", "no_regression": {"max_relative_increase": 0.02}, **AGAINST}
    assert judge(run, check).checks[0].verdict == verdict


@pytest.mark.parametrize(("limit", "verdict"), [(0.02, "fail"), (0.04, "pass")])
def test_one_process_is_enough_for_what_repeats_to_the_byte(
    judge: Gate, tmp_path: Path, limit: float, verdict: str
) -> None:
    run = make_run(tmp_path, rss_mib={"base": [800.0], "adapter": [800.0]})
    for variant, weights in {"base": 13000.0, "adapter": 13400.0}.items():
        workload = {"prompt_tokens": 128, "reply_tokens": 32}
        parts: dict[str, Any] = {
            "weights_mib": weights,
            "kv_cache_mib": 159.0,
            "activations_prompt_mib": 100.0,
            "workload": workload,
        }
        row = MemoryRecord(id="repeat-0", key="k", device="cuda:0", peak_allocated_mib=weights + 240, **parts)
        write_rows(run.records_path("memory", variant), [row])
    reseal(run, summarized=True)
    check = {"metric": "memory.peak_allocated_mib", "no_regression": {"max_relative_increase": limit}, **AGAINST}
    assert judge(run, check).checks[0].verdict == verdict
    assert judge(run, {"metric": "memory.peak_allocated_mib", "max": 13641.0}).checks[0].verdict == "pass"


def test_latency_is_judged_as_a_ratio(judge: Gate, shared_run: RunFolder) -> None:
    check = {
        "metric": "latency.tpot_ms.p50",
        "no_regression": {"max_relative_increase": 0.1},
        **AGAINST,
        "min_samples": 8,
    }
    result = judge(shared_run, check).checks[0]
    assert (result.verdict, result.scale, result.units) == ("pass", "ratio", "requests")
    assert result.value == pytest.approx(1.0, abs=0.03)


def test_a_dialogue_must_pass_by_itself(judge: Gate, shared_run: RunFolder) -> None:
    rows = shared_run.replies("adapter")
    worst = max(rows, key=lambda row: row.scores["quality.nll"] or 0.0)
    limit = (worst.scores["quality.nll"] or 0.0) - 0.01
    assert judge(shared_run, {"metric": "quality.nll", "max": limit}).exit_code == 0
    failed = judge(shared_run, {"metric": "quality.nll", "max": limit, "must_pass": [worst.id]})
    assert (failed.exit_code, failed.checks[0].must_pass_failed) == (1, (worst.id,))
    absent = judge(shared_run, {"metric": "quality.nll", "max": limit, "must_pass": ["nobody"]})
    assert (absent.exit_code, absent.checks[0].must_pass_missing) == (4, ("nobody",))


@pytest.mark.parametrize("state", ["running", "failed"])
def test_an_unfinished_run_is_an_error(judge: Gate, tmp_path: Path, state: str) -> None:
    run = make_run(tmp_path / "run", random_values(20), state=state, error="adapter gives the base's logits")
    result = judge(run, GOOD)
    assert result.exit_code == 4
    assert f"is not complete but {state} (adapter gives the base's logits)" in result.sentence


def test_an_edited_reply_is_an_error(judge: Gate, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(20))
    path = run.replies_path("adapter")
    path.write_text(path.read_text().replace("Rest against", "Stand against", 1))
    result = judge(run, GOOD)
    assert (result.exit_code, result.checks) == (4, ())
    assert result.problems == (
        "replies/adapter.jsonl was changed after the run ended: its digest is not the one in run.json.",
    )


def test_missing_dialogues_are_an_error(judge: Gate, tmp_path: Path) -> None:
    half = [f"d{number:04d}" for number in range(60)]
    run = make_run(tmp_path / "run", unanswered={"adapter": half})
    result = judge(run, GOOD)
    assert result.exit_code == 4
    assert result.sentence == "adapter: 1 of 1 checks could not be judged (c0)."
    assert result.checks[0].sentence == (
        "adapter answered 60 of 120 dialogues (50 %), and 99 % is required: 60 have no reply. "
        "To judge it, add the missing replies, or set min_coverage: 0.5 knowingly."
    )


def test_missing_dialogues_of_the_other_variant_are_an_error_too(judge: Gate, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", unanswered={"base": ["d0000", "d0001"]})
    assert judge(run, GOOD).exit_code == 4
    assert judge(run, {"metric": "quality.nll", "max": 9}).exit_code == 0


def test_a_metric_that_is_not_a_number_is_an_error(judge: Gate, tmp_path: Path) -> None:
    values = random_values(120)
    values["adapter"]["quality.rouge_l"][7] = None
    run = make_run(tmp_path / "run", values)
    path = run.replies_path("adapter")
    path.write_text(path.read_text().replace('"quality.rouge_l": null', '"quality.rouge_l": NaN'))
    result = judge(reseal(run), {"metric": "quality.rouge_l", "min": 0.1})
    assert (result.exit_code, result.checks[0].verdict) == (4, "error")


# ---- baselines


@pytest.fixture
def pair(tmp_path: Path) -> tuple[RunFolder, RunFolder]:
    """Return an earlier run and one with the same dialogues and slightly other noise."""
    before, now = random_values(seed=3), random_values(seed=3)
    generator = np.random.default_rng(4)
    for metrics in now.values():
        metrics["quality.nll"] = [(value or 0.0) + float(generator.normal(0, 0.01)) for value in metrics["quality.nll"]]
    tokens = {name: [5.0 + 0.01 * number for number in range(16)] for name in before}
    return (
        make_run(tmp_path / "before", before, tokens_ms=tokens),
        make_run(
            tmp_path / "now",
            now,
            tokens_ms={k: [t * 1.01 + 0.001 * (i % 5) for i, t in enumerate(v)] for k, v in tokens.items()},
        ),
    )


AGAINST_MAIN = {"metric": "quality.nll", "non_inferiority": {"margin": 0.2}, **BASELINE}
LATENCY_MAIN = {
    "metric": "latency.tpot_ms.p50",
    "no_regression": {"max_relative_increase": 0.1},
    "min_samples": 8,
    **BASELINE,
}


def test_a_run_is_paired_with_the_accepted_baseline(judge: Gate, pair: tuple[RunFolder, RunFolder]) -> None:
    judge.accept(pair[0])
    result = judge(pair[1], AGAINST_MAIN, LATENCY_MAIN)
    assert [check.verdict for check in result.checks] == ["pass", "pass"]
    assert result.checks[0].against == "adapter of baseline main"
    assert result.checks[0].n == 120
    assert result.checks[0].value == pytest.approx(0, abs=0.005)
    assert result.checks[1].value == pytest.approx(1.01, abs=0.005)
    assert set(result.baselines) == {"main"}


def test_a_redacted_baseline_gives_the_same_numbers(judge: Gate, pair: tuple[RunFolder, RunFolder]) -> None:
    judge.accept(pair[0], "full")
    judge.accept(pair[0], "redacted", redact_text=True)
    full, redacted = (judge(pair[1], AGAINST_MAIN, baseline=name).checks[0] for name in ("full", "redacted"))
    assert (full.value, full.low, full.high, full.n) == (redacted.value, redacted.low, redacted.high, redacted.n)
    assert redacted.verdict == "pass"


def test_the_flag_stands_for_the_file_s_baseline_and_for_an_absent_against(
    judge: Gate, pair: tuple[RunFolder, RunFolder]
) -> None:
    without = {"metric": "quality.nll", "non_inferiority": {"margin": 0.02}}
    result = judge(pair[1], AGAINST_MAIN, without, baseline=str(pair[0].root))
    assert [check.against for check in result.checks] == ["adapter of baseline before"] * 2
    unused = judge(pair[1], GOOD, baseline=str(pair[0].root))
    assert unused.warnings == ("--baseline was given, but no check compares with a baseline.",)
    with pytest.raises(InputError, match="There is no baseline 'nowhere'"):
        judge(pair[1], GOOD, baseline="nowhere")


def difference_named(judge: Gate, run: RunFolder, check: dict[str, Any] = AGAINST_MAIN) -> str:
    result = judge(run, check)
    assert (result.exit_code, result.checks[0].verdict) == (4, "error")
    return result.checks[0].sentence


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"template_digest": "2" * 64}, "another prompt template"),
        ({"generation": {"max_new_tokens": 128}}, "another decoding"),
        ({"ids": [f"e{number:04d}" for number in range(120)]}, "120 are only in the run"),
    ],
)
def test_what_was_measured_otherwise_is_not_compared(
    judge: Gate, tmp_path: Path, changed: dict[str, Any], said: str
) -> None:
    judge.accept(make_run(tmp_path / "before"))
    assert said in difference_named(judge, make_run(tmp_path / "now", **changed))


def test_fewer_dialogues_than_the_baseline_s_are_not_compared(judge: Gate, tmp_path: Path) -> None:
    judge.accept(make_run(tmp_path / "before", random_values(240)))
    assert "120 only in the baseline" in difference_named(judge, make_run(tmp_path / "now", random_values(120)))


def test_other_references_are_not_compared(judge: Gate, tmp_path: Path) -> None:
    judge.accept(make_run(tmp_path / "before"))
    run = make_run(tmp_path / "now")
    run.dialogues_path.write_text(run.dialogues_path.read_text().replace("Rest and water", "Water", 1))
    assert "references differ from those of baseline main" in difference_named(judge, reseal(run))


def test_another_metric_signature_is_not_compared(judge: Gate, tmp_path: Path) -> None:
    judge.accept(make_run(tmp_path / "before"))
    run = make_run(tmp_path / "now")
    summary = json.loads(run.summary_path.read_text())
    summary["metrics"]["quality.nll"]["signature"] += "|other"
    run.summary_path.write_text(json.dumps(summary))
    assert "another metric signature" in difference_named(judge, reseal(run))


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"provenance": {"hardware": {"cpu": "Other CPU"}}}, "different device"),
        (
            {"provenance": {"hardware": {"cpu": "Example CPU, 2 cores", "gpu": "Some GPU"}, "device": "cuda:0"}},
            "different device",
        ),
        ({"provenance": {}}, "not recorded"),
        (
            {"variants": ({"name": "base"}, {"name": "adapter", "dtype": "bfloat16"}, {"name": "merged"})},
            "another dtype",
        ),
    ],
)
def test_another_machine_or_dtype_is_not_compared_for_latency(
    judge: Gate, pair: tuple[RunFolder, RunFolder], fields: dict[str, Any], said: str
) -> None:
    judge.accept(pair[0])
    change_manifest(pair[1], **fields)
    assert said in difference_named(judge, pair[1], LATENCY_MAIN)
    assert judge(pair[1], AGAINST_MAIN).exit_code == 0


def test_a_broken_baseline_is_not_compared_with(judge: Gate, pair: tuple[RunFolder, RunFolder]) -> None:
    judge.accept(pair[0])
    (judge.baselines / "main" / "replies" / "base.jsonl").unlink()
    assert "Baseline main cannot be compared with: replies/base.jsonl is missing" in difference_named(judge, pair[1])


def test_a_slice_that_a_redacted_baseline_does_not_hold_is_an_error(judge: Gate, tmp_path: Path) -> None:
    columns = {"condition": ["asthma" if number % 2 else "gout" for number in range(120)]}
    run = make_run(tmp_path / "before", columns=columns)
    check = {**AGAINST_MAIN, "slice": {"condition": "asthma"}, "min_samples": 50}
    judge.accept(run)
    assert judge(run, check).exit_code == 0
    judge.accept(run, redact_text=True)
    assert "Baseline main has no column 'condition'" in difference_named(judge, run, check)


def test_a_slice_of_other_dialogues_than_the_baseline_s_is_an_error(judge: Gate, tmp_path: Path) -> None:
    condition = ["asthma" if number % 2 else "gout" for number in range(120)]
    judge.accept(make_run(tmp_path / "before", columns={"condition": condition}))
    run = make_run(tmp_path / "now", columns={"condition": ["gout", "gout", *condition[2:]]})
    said = difference_named(judge, run, {**AGAINST_MAIN, "slice": {"condition": "asthma"}, "min_samples": 50})
    assert said == "In baseline main, different dialogues have 'asthma' in the column 'condition'."


def test_a_baseline_named_in_the_file_is_an_accepted_one(
    judge: Gate, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path / "main")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="There is no baseline 'main'"):
        judge(run, AGAINST_MAIN)
    assert judge(run, AGAINST_MAIN, baseline="main").exit_code == 0


def test_a_slowdown_is_stopped(judge: Gate, pair: tuple[RunFolder, RunFolder]) -> None:
    judge.accept(pair[0])
    path = pair[1].records_path("latency", "adapter")
    lines = []
    for line in path.read_text().splitlines():
        record = json.loads(line)
        start = record["submitted_ns"]
        record["stamps_ns"] = [start + round(1.3 * (stamp - start)) for stamp in record["stamps_ns"]]
        lines.append(json.dumps(record) + "\n")
    path.write_text("".join(lines))
    result = judge(reseal(pair[1], summarized=True), LATENCY_MAIN)
    assert result.exit_code == 1
    assert result.checks[0].value == pytest.approx(1.313, abs=0.005)
    assert "rose from" in result.checks[0].sentence
    assert result.checks[0].sentence.endswith("; at most 1.1 × is allowed.")


def test_a_removed_metric_is_an_error(judge: Gate, tmp_path: Path) -> None:
    values = random_values()
    for metrics in values.values():
        del metrics["quality.rouge_l"]
    result = judge(make_run(tmp_path / "run", values), GOOD, {"metric": "quality.rouge_l", "min": 0.1})
    assert result.exit_code == 4
    assert result.checks[1].sentence == (
        "quality.rouge_l was not measured. Add it to 'metrics' in the run's config, or remove this check."
    )


# ---- metrics of a user's own modules


OWN: dict[str, Any] = {"unit": "share", "higher_is_better": True, "signature": "own|1", "label": "Asks back"}


def run_with_own_metric(folder: Path, spec: MetricSpec, statistics: Sequence[float] | None = None) -> RunFolder:
    """Return a run scored by a module that is not there any more."""
    values = random_values()
    for position, metrics in enumerate(values.values()):
        metrics[spec.name] = [float(number % 4 < 1 + position) for number in range(120)]
    run = make_run(folder, values)
    if statistics is not None:
        for variant in values:
            rows = [row.model_copy(update={"statistics": {spec.name: statistics}}) for row in run.replies(variant)]
            write_rows(run.replies_path(variant), rows)
    manifest = run.read_manifest()
    change_manifest(run, config={**manifest.config, "metric_options": {"modules": ["gone.py"]}})
    write_model(run.summary_path, summarize(run, registry={**all_specs(), spec.name: spec}))
    return reseal(run)


def test_an_own_metric_is_judged_as_its_run_recorded_it_without_its_module(judge: Gate, tmp_path: Path) -> None:
    run = run_with_own_metric(tmp_path / "run", MetricSpec("quality.asks_back", aggregation="rate", **OWN))
    limit = {"metric": "quality.asks_back", "min": 0.4}
    result = judge(run, limit, {"metric": limit["metric"], "no_regression": {"max_drop": 0.0}, **AGAINST})
    assert [check.verdict for check in result.checks] == ["pass", "pass"]
    assert (result.checks[0].value, result.checks[0].method) == (0.5, "Clopper–Pearson")
    assert result.checks[0].low == run.read_summary().metrics["quality.asks_back"].variants["adapter"].low
    with pytest.raises(InputError, match=r"Did you mean 'quality\.asks_back'"):
        judge(run, {"metric": "quality.ask_back", "min": 0.4})


def test_an_own_metric_that_only_its_module_can_combine_is_an_error(judge: Gate, tmp_path: Path) -> None:
    spec = MetricSpec("quality.asks_back", aggregation="corpus", statistics=("hits", "asked"), **OWN)
    run = run_with_own_metric(tmp_path / "run", spec, (1.0, 2.0))
    result = judge(run, {"metric": "quality.asks_back", "min": 0.1})
    assert (result.exit_code, result.checks[0].verdict) == (4, "error")
    assert "combined by the run's own module, which the gate does not execute" in result.checks[0].sentence


def test_a_first_run_is_judged_without_the_checks_that_need_a_baseline(shared_run: RunFolder, judge: Gate) -> None:
    path = judge.thresholds(GOOD, {**GOOD, **BASELINE}, {"metric": "quality.nll", "non_inferiority": {"margin": 0.1}})
    found = gate(shared_run.root, path, baselines=judge.baselines, first=True)
    assert ([check.id for check in found.checks], found.verdict) == (["c0"], "pass")
    assert "Left out, because there is no baseline yet: c1, c2." in found.warnings


def test_a_first_run_with_nothing_to_judge_is_an_error(shared_run: RunFolder, judge: Gate) -> None:
    found = gate(shared_run.root, judge.thresholds({**GOOD, **BASELINE}), baselines=judge.baselines, first=True)
    assert found.exit_code == 4
    assert "has no checks that need no baseline: nothing was judged" in found.sentence


def test_a_first_run_takes_no_baseline(shared_run: RunFolder, judge: Gate) -> None:
    with pytest.raises(InputError, match="--first is for when there is no baseline yet"):
        gate(shared_run.root, judge.thresholds(GOOD), baseline="main", baselines=judge.baselines, first=True)
