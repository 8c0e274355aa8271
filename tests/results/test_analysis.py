from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.errors import InputError
from harness.results.analysis import Analysis
from harness.stats.samples import defined_units, from_values
from harness.stats.types import Samples
from harness.store.folder import RunFolder
from harness.store.schema import ReplyRow
from tests.results.made_runs import (
    REGISTRY,
    compared,
    generated,
    ids,
    make_run,
    reply,
    sized,
    timed,
    timed_runs,
    write_records,
    write_replies,
    write_scores,
)
from tests.stats.ask import difference, estimate

ROUGE = "quality.rouge_1"


def analysis(folder: RunFolder) -> Analysis:
    return Analysis(folder, registry=REGISTRY, resamples=1000, seed=3)


def scored(root: Path, n: int = 60, shift: float = 0.1, seed: int = 0) -> RunFolder:
    folder = make_run(root, n=n)
    generator = np.random.default_rng(seed)
    base = generator.uniform(size=n)
    write_scores(folder, "base", ROUGE, list(base))
    write_scores(folder, "adapter", ROUGE, list(base + generator.normal(shift, 0.2, n)))
    return folder


class TestReplies:
    def test_estimates_are_those_of_the_plain_functions(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        values = [row.scores[ROUGE] for row in folder.replies("base")]
        plain = estimate(from_values(ids(60), values), resamples=1000, seed=3)
        assert analysis(folder).estimate(ROUGE, "base") == plain

    def test_differences_are_those_of_the_plain_functions(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        base, adapter = (
            from_values(ids(60), [row.scores[ROUGE] for row in folder.replies(name)]) for name in ("base", "adapter")
        )
        plain = difference(adapter, base, higher_is_better=True, confidence=0.9, resamples=1000, seed=3)
        made = analysis(folder).difference(ROUGE, "adapter", "base", confidence=0.9)
        assert made.value == pytest.approx(plain.value)
        assert (made.low, made.high) == pytest.approx((plain.low, plain.high))
        assert made.n == 60

    def test_preparing_many_metrics_at_once_changes_nothing(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        prepared = analysis(folder)
        prepared.prepare([ROUGE])
        one, two = (made.estimate(ROUGE, "adapter") for made in (prepared, analysis(folder)))
        assert (one.low, one.high) == pytest.approx((two.low, two.high))

    def test_permuting_the_rows_of_every_file_changes_nothing(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        before = analysis(folder).difference(ROUGE, "adapter", "base")
        for path in (folder.dialogues_path, folder.replies_path("adapter")):
            lines = path.read_text().splitlines(keepends=True)
            path.write_text("".join(lines[::-1]))
        assert analysis(folder).difference(ROUGE, "adapter", "base") == before

    def test_a_run_against_itself_is_equal(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        made = analysis(folder).difference(ROUGE, "adapter", "adapter", other=analysis(folder))
        assert (made.value, made.outcome) == (0.0, "equal")
        assert made.low == pytest.approx(-(made.high or 0.0))

    def test_an_interval_ends_where_the_metric_does(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path, n=12, variants=("base",))
        write_scores(folder, "base", ROUGE, [0.01] * 6 + [0.02] * 5 + [0.9])
        wide, cut = (
            Analysis(folder, registry={ROUGE: replace(REGISTRY[ROUGE], scale=scale)}).estimate(ROUGE, "base")
            for scale in ("", "0–1")
        )
        assert (wide.low or 0.0) < 0.0 < 1.0 < (wide.high or 0.0)
        assert (cut.low, cut.high) == (0.0, 1.0)

    def test_a_baseline_is_paired_by_dialogue_id(self, tmp_path: Path) -> None:
        mine, theirs = scored(tmp_path / "mine", seed=0), scored(tmp_path / "theirs", n=50, seed=1)
        made = analysis(mine).difference(ROUGE, "adapter", "base", other=analysis(theirs))
        ours = {row.id: row.scores[ROUGE] or 0.0 for row in mine.replies("adapter")}
        gaps = [ours[row.id] - (row.scores[ROUGE] or 0.0) for row in theirs.replies("base")]
        assert made.n == 50
        assert made.value == pytest.approx(np.mean(gaps))

    def test_replies_that_failed_are_no_units(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path, n=60)
        rows = [reply(name, scores={ROUGE: 0.01 * index}) for index, name in enumerate(ids(60))]
        rows[4] = ReplyRow(id=rows[4].id, error="out of memory", scores={ROUGE: None})
        write_replies(folder, "base", rows[:50])
        made = analysis(folder)
        assert made.estimate(ROUGE, "base").n == 49
        samples = made.measured.samples((ROUGE, "base", None))
        assert isinstance(samples, Samples)
        known = dict(zip(samples.ids, defined_units(samples), strict=True))
        assert (known[ids(60)[4]], known[ids(60)[5]]) == (False, True)

    def test_corpus_metrics_come_from_summed_statistics(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path, n=60)
        tokens = [float(10 + index) for index in range(60)]
        rows = [
            reply(name, statistics={"quality.perplexity": (2.0 * count, count)})
            for name, count in zip(ids(60), tokens, strict=True)
        ]
        rows[0] = rows[0].model_copy(update={"statistics": {"quality.perplexity": (100.0, 10.0)}})
        write_replies(folder, "base", rows)
        expected = math.exp((2.0 * sum(tokens) + 80.0) / sum(tokens))
        assert analysis(folder).estimate("quality.perplexity", "base").value == pytest.approx(expected)

    def test_statistics_of_another_length_are_refused_by_file(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path)
        write_replies(folder, "base", [reply("d0000", statistics={"quality.perplexity": (1.0, 2.0, 3.0)})])
        with pytest.raises(InputError, match=r"base\.jsonl"):
            analysis(folder).estimate("quality.perplexity", "base")

    def test_turns_of_a_conversation_count_once(self, tmp_path: Path) -> None:
        folder = make_run(tmp_path, n=60, conversations=[f"c{index // 3}" for index in range(60)])
        write_scores(folder, "base", ROUGE, [float(index % 7) for index in range(60)])
        assert analysis(folder).estimate(ROUGE, "base").n == 20


class TestSlices:
    def test_a_slice_holds_the_dialogues_of_a_level(self, tmp_path: Path) -> None:
        folder = scored(tmp_path)
        made = analysis(folder).estimate(ROUGE, "base", slice=("source", "clinic"))
        values = [row.scores[ROUGE] or 0.0 for row in folder.replies("base")[::3]]
        assert made.n == 20
        assert made.value == pytest.approx(np.mean(values))

    def test_the_length_of_the_prompt_is_a_column(self, tmp_path: Path) -> None:
        made = analysis(scored(tmp_path)).difference(ROUGE, "adapter", "base", slice=("length_bucket", "33–64"))
        assert made.n == 30

    def test_a_level_that_no_dialogue_has_measures_nothing(self, tmp_path: Path) -> None:
        made = analysis(scored(tmp_path)).difference(ROUGE, "adapter", "base", slice=("source", "moon"))
        assert (made.value, made.n) == (None, 0)
        assert analysis(scored(tmp_path)).estimate(ROUGE, "base", slice=("source", "moon")).value is None

    def test_an_unknown_column_is_refused_with_the_nearest(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="Did you mean 'source'"):
            analysis(scored(tmp_path)).estimate(ROUGE, "base", slice=("sorce", "gp"))


class TestNames:
    def test_a_metric_that_was_not_measured_has_no_value(self, tmp_path: Path) -> None:
        made = analysis(scored(tmp_path))
        assert (made.estimate("safety.refusal", "base").value, made.estimate("safety.refusal", "base").n) == (None, 0)
        assert made.difference("safety.refusal", "adapter", "base").outcome == "undecided"
        assert made.measured.metric_names == (ROUGE,)

    def test_unknown_names_are_refused_with_the_nearest(self, tmp_path: Path) -> None:
        made = analysis(scored(tmp_path))
        with pytest.raises(InputError, match=r"Did you mean 'quality\.rouge_1'"):
            made.estimate("quality.rouge_l1", "base")
        with pytest.raises(InputError, match="Did you mean 'adapter'"):
            made.estimate(ROUGE, "adaptor")


class TestFidelity:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> RunFolder:
        folder = make_run(tmp_path, n=60, variants=("base", "adapter", "merged"))
        records = [compared(name, kl=(0.1 * index, 0.3), agree=index % 2) for index, name in enumerate(ids(60))]
        write_records(folder, "fidelity", "merged", records)
        write_records(folder, "generation", "adapter", [generated(name, (1, 2, 3)) for name in ids(60)])
        others = [(1, 2, 3)] * 45 + [(1, 9, 3)] * 10 + [(1, 2)] * 5
        rows = [generated(name, tokens) for name, tokens in zip(ids(60), others, strict=True)]
        write_records(folder, "generation", "merged", rows)
        return folder

    def test_values_are_over_tokens_and_dialogues(self, folder: RunFolder) -> None:
        made = analysis(folder)

        def value(name: str) -> float | None:
            return made.estimate(f"fidelity.{name}", "merged").value

        assert value("kl") == pytest.approx((0.1 * sum(range(60)) + 0.3 * 60) / 120)
        assert value("top1_agreement") == pytest.approx(30 / 120)
        assert value("nll_difference") == pytest.approx(0.5)
        assert value("identical_replies") == pytest.approx(45 / 60)
        assert value("first_divergence") == pytest.approx((10 * 1 + 5 * 2) / 15)

    def test_the_tail_of_the_divergence_counts_dialogues(self, folder: RunFolder) -> None:
        made = analysis(folder).estimate("fidelity.kl_p99", "merged")
        assert made.n == 60
        assert made.high is None
        assert "60 dialogues" in made.warnings[0]

    def test_the_tail_of_the_divergence_counts_conversations(self, tmp_path: Path) -> None:
        generator = np.random.default_rng(0)
        spread = np.repeat(generator.lognormal(size=500), 4)
        conversations = [f"c{index // 4}" for index in range(2000)]
        made = {}
        for name, grouped in (("alone", None), ("together", conversations)):
            folder = make_run(tmp_path / name, n=2000, variants=("base", "merged"), conversations=grouped)
            records = [compared(one, kl=(scale, 2 * scale)) for one, scale in zip(ids(2000), spread, strict=True)]
            write_records(folder, "fidelity", "merged", records)
            made[name] = analysis(folder)
        alone, together = (made[name].estimate("fidelity.kl_p99", "merged") for name in ("alone", "together"))
        assert (alone.n, together.n) == (2000, 500)
        assert alone.value == together.value
        assert (together.high or 0.0) - (together.low or 0.0) > 1.5 * ((alone.high or 0.0) - (alone.low or 0.0))
        half = made["together"].estimate("fidelity.kl_p99", "merged", slice=("source", "gp"))
        assert half.n == 500  # every conversation has turns of both sources

    @pytest.mark.parametrize(("n", "warned"), [(49, True), (50, False)])
    @pytest.mark.parametrize("metric", ["fidelity.kl", "fidelity.kl_p99"])
    def test_fewer_than_fifty_dialogues_carry_the_warning_of_any_comparison(
        self, tmp_path: Path, metric: str, n: int, warned: bool
    ) -> None:
        folder = make_run(tmp_path, n=n, variants=("base", "merged"))
        records = [compared(name, kl=(0.1 * index, 0.3)) for index, name in enumerate(ids(n))]
        write_records(folder, "fidelity", "merged", records)
        warnings = analysis(folder).estimate(metric, "merged").warnings
        assert any("Only 49 dialogues" in warning for warning in warnings) == warned

    def test_only_the_variant_held_against_another_has_it_and_says_against_which(self, folder: RunFolder) -> None:
        made = analysis(folder)
        assert made.measured.variants_of("fidelity.kl") == ("merged",)
        assert made.measured.conditions("fidelity.kl") == {"against": {"merged": "adapter"}}
        assert made.estimate("fidelity.kl", "base").n == 0

    def test_a_second_opponent_is_named(self, folder: RunFolder) -> None:
        records = [*folder.records(type(compared("x")), "fidelity", "merged"), compared("d0000", against="base")]
        write_records(folder, "fidelity", "merged", records)
        made = analysis(folder)
        assert made.estimate("fidelity.kl[against=base]", "merged").n == 1
        assert made.estimate("fidelity.kl", "merged").n == 60


class TestLatency:
    def run(self, root: Path, **records: list) -> RunFolder:  # type: ignore[type-arg]
        folder = make_run(root, n=20, variants=tuple(records))
        for variant, rows in records.items():
            write_records(folder, "latency", variant, rows)
        return folder

    def test_quantiles_pool_repeats_and_count_requests(self, tmp_path: Path) -> None:
        records = [timed(name, ttft_ms=10.0 + index) for index, name in enumerate(ids(20))]
        records += [timed(name, ttft_ms=10.5 + index, repeat=1) for index, name in enumerate(ids(20))]
        made = analysis(self.run(tmp_path, base=records)).estimate("latency.ttft_ms.p50", "base")
        assert made.value == pytest.approx(19.75)
        assert made.n == 20
        assert made.low is not None

    def test_the_hosts_part_of_ttft_is_a_metric_where_it_was_recorded(self, tmp_path: Path) -> None:
        launched = [
            timed(name, ttft_ms=50.0, launched_ns=1_000_000 * (index + 1)) for index, name in enumerate(ids(20))
        ]
        one_token = [timed("p", tokens=1, workload="prefill", prompt_tokens=32, launched_ns=7_000_000)]
        unknown = [timed(name, batch=4, workload="sweep") for name in ids(6)]
        made = analysis(self.run(tmp_path, base=[*launched, *one_token, *unknown]))
        assert made.estimate("latency.ttft_host_ms.p50", "base").value == pytest.approx(10.5)
        names = [name for name in made.measured.metric_names if "ttft_host" in name]
        alone = "latency.ttft_host_ms.p50[engine=eager,batch=1,prompt_tokens=32]"
        assert names == ["latency.ttft_host_ms.p50", alone]
        assert made.estimate(alone, "base").value == 7.0

    def test_a_tail_of_few_requests_has_no_upper_bound(self, tmp_path: Path) -> None:
        made = analysis(self.run(tmp_path, base=timed_runs(20))).estimate("latency.itl_ms.p99", "base")
        assert (made.n, made.high) == (20, None)
        assert "368" in made.warnings[0]

    def test_a_slowdown_is_a_ratio_found_under_drift(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path, base=timed_runs(20, seed=1), adapter=timed_runs(20, factor=1.1, seed=2))
        made = analysis(folder).difference("latency.tpot_ms.p50", "adapter", "base")
        assert made.relative
        assert made.outcome == "worse"
        assert made.value == pytest.approx(1.1, rel=0.02)
        assert made.n == 20

    def test_throughput_is_better_where_it_is_higher(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path, base=timed_runs(20, seed=1), adapter=timed_runs(20, factor=1.1, seed=2))
        made = analysis(folder).difference("latency.tokens_per_s", "adapter", "base")
        assert made.outcome == "worse"
        assert made.value == pytest.approx(1 / 1.1, rel=0.02)

    def test_plain_names_mean_the_compiled_engine_where_every_variant_has_it(self, tmp_path: Path) -> None:
        both = [*timed_runs(20, engine="eager"), *timed_runs(20, factor=0.5, engine="compiled")]
        made = analysis(self.run(tmp_path, base=both, adapter=both))
        plain, eager = (
            made.estimate(f"latency.tpot_ms.p50{suffix}", "base").value for suffix in ("", "[engine=eager,batch=1]")
        )
        assert plain == pytest.approx((eager or 0.0) / 2)
        assert made.measured.conditions("latency.tpot_ms.p50") == {
            "engine": "compiled",
            "batch": 1,
            "workload": "fixed",
        }

    def test_plain_names_mean_eager_where_a_variant_was_not_compiled(self, tmp_path: Path) -> None:
        both = [*timed_runs(20, engine="eager"), *timed_runs(20, factor=0.5, engine="compiled")]
        made = analysis(self.run(tmp_path, base=both, adapter=timed_runs(20)))
        assert made.measured.conditions("latency.tpot_ms.p50")["engine"] == "eager"
        assert made.measured.variants_of("latency.tpot_ms.p50[engine=compiled,batch=1]") == ("base",)

    def test_plain_names_mean_eager_where_the_compiled_engine_refused_a_variant(self, tmp_path: Path) -> None:
        both = [*timed_runs(20, engine="eager"), *timed_runs(20, factor=0.5, engine="compiled")]
        refused = [timed(name, tokens=0, engine="compiled", skipped="an encoder") for name in ids(20)]
        made = analysis(self.run(tmp_path, base=both, adapter=[*timed_runs(20, engine="eager"), *refused]))
        assert made.measured.conditions("latency.tpot_ms.p50")["engine"] == "eager"
        assert made.estimate("latency.tpot_ms.p50", "adapter").n == 20

    def test_plain_names_mean_the_compiled_engine_where_nothing_else_was_timed(self, tmp_path: Path) -> None:
        served = timed_runs(20, engine="compiled")
        refused = [timed(name, tokens=0, engine="compiled", skipped="an encoder") for name in ids(20)]
        made = analysis(self.run(tmp_path, base=served, adapter=refused))
        assert made.measured.conditions("latency.tpot_ms.p50")["engine"] == "compiled"
        assert made.estimate("latency.tpot_ms.p50", "base").n == 20

    def test_batches_of_a_sweep_are_their_own_metric_and_unit(self, tmp_path: Path) -> None:
        sweep = [
            timed(name, batch=4, workload="sweep", submitted_ms=1000.0 * (index // 4))
            for index, name in enumerate(ids(16))
        ]
        made = analysis(self.run(tmp_path, base=[*timed_runs(20), *sweep]))
        name = "latency.tokens_per_s[engine=eager,batch=4]"
        assert name in made.measured.metric_names
        assert made.estimate(name, "base").n == 4
        assert made.estimate(name, "base").value == pytest.approx(20 / 0.090)

    def test_one_record_may_stand_for_a_batch(self, tmp_path: Path) -> None:
        sweep = [timed("batch-of-4", batch=4, workload="sweep", repeat=repeat) for repeat in range(3)]
        made = analysis(self.run(tmp_path, base=sweep))
        throughput = made.estimate("latency.tokens_per_s[engine=eager,batch=4]", "base")
        assert throughput.value == pytest.approx(4 * 5 / 0.090)
        assert (throughput.n, throughput.low) == (1, None)

    def test_prefill_has_a_time_to_first_token_for_each_length_and_nothing_else(self, tmp_path: Path) -> None:
        prefill = [
            timed(f"prompt-of-{length}", tokens=1, workload="prefill", prompt_tokens=length) for length in (32, 128)
        ]
        names = analysis(self.run(tmp_path, base=prefill)).measured.metric_names
        assert names == tuple(f"latency.ttft_ms.p50[engine=eager,batch=1,prompt_tokens={n}]" for n in (32, 128))

    def test_a_sweep_at_batch_one_gives_way_to_the_fixed_workload(self, tmp_path: Path) -> None:
        sweep = timed_runs(20, factor=9.0, workload="sweep")
        made = analysis(self.run(tmp_path, base=[*sweep, *timed_runs(20)]))
        alone = analysis(self.run(tmp_path / "alone", base=timed_runs(20)))
        assert made.estimate("latency.tpot_ms.p50", "base") == alone.estimate("latency.tpot_ms.p50", "base")

    def test_natural_length_is_apart(self, tmp_path: Path) -> None:
        made = analysis(self.run(tmp_path, base=[*timed_runs(20), *timed_runs(20, workload="natural")]))
        assert "latency.e2e_ms.p95[engine=eager,batch=1,workload=natural]" in made.measured.metric_names

    def test_a_tails_ratio_says_that_it_is_the_typical_requests(self, tmp_path: Path) -> None:
        made = analysis(self.run(tmp_path, base=timed_runs(80), adapter=timed_runs(80, factor=1.2)))
        tail = made.difference("latency.e2e_ms.p95", "adapter", "base")
        assert any("typical request's" in warning and "p95" in warning for warning in tail.warnings)
        assert not made.difference("latency.tpot_ms.p50", "adapter", "base").warnings

    def test_goodput_needs_a_budget_and_is_a_rate(self, tmp_path: Path) -> None:
        records = [timed(name, ttft_ms=10.0 * index) for index, name in enumerate(ids(20))]
        folder = self.run(tmp_path, base=records)
        assert "latency.goodput" not in analysis(folder).measured.metric_names
        manifest = folder.read_manifest()
        config = {**manifest.config, "latency": {"ttft_budget_ms": 95.0}}
        folder.write_manifest(manifest.model_copy(update={"config": config}))
        made = analysis(folder).estimate("latency.goodput", "base")
        assert (made.value, made.n, made.method) == (0.5, 20, "Clopper–Pearson")

    def test_utilisation_is_the_floor_over_the_median_step(self, tmp_path: Path) -> None:
        folder = self.run(tmp_path, base=timed_runs(20))
        facts = {"roofline": {"base": {"floor_ms": 3.0}}}
        folder.write_manifest(folder.read_manifest().model_copy(update={"provenance": facts}))
        made = analysis(folder)
        tpot, mbu = (made.estimate(f"latency.{name}", "base") for name in ("tpot_ms.p50", "mbu"))
        assert (mbu.value, mbu.low, mbu.high) == (
            3.0 / (tpot.value or 1.0),
            3.0 / (tpot.high or 1.0),
            3.0 / (tpot.low or 1.0),
        )


class TestMemory:
    def run(self, root: Path, **repeats: list[float]) -> Analysis:
        folder = make_run(root, variants=tuple(repeats))
        for variant, values in repeats.items():
            rows = [sized(index, weights_mib=value) for index, value in enumerate(values)]
            write_records(folder, "memory", variant, rows)
        return analysis(folder)

    def test_the_value_is_the_median_without_an_interval(self, tmp_path: Path) -> None:
        made = self.run(tmp_path, base=[100.0, 100.5, 100.2]).estimate("memory.weights_mib", "base")
        assert (made.value, made.low, made.high, made.n) == (100.2, None, None, 3)

    def test_repeats_that_disagree_are_warned_of(self, tmp_path: Path) -> None:
        made = self.run(tmp_path, base=[100.0, 103.0])
        assert any("differ by 3.0%" in warning for warning in made.estimate("memory.weights_mib", "base").warnings)

    @pytest.mark.parametrize(
        ("base", "adapter", "outcome"),
        [
            ([100.0, 100.1, 100.0, 100.2], [50.0, 50.1, 50.2, 50.3], "better"),
            ([100.0, 100.1, 100.0, 100.2], [100.3, 100.4, 100.3, 100.5], "undecided"),
            ([100.0, 100.1], [50.0, 50.1], "undecided"),
            ([100.0, 100.1, 100.2], [50.0, 50.1, 50.2], "undecided"),
            ([100.0, 100.0], [50.0, 50.0], "better"),  # to the last bit: there is no chance in it
            ([100.0, 100.0], [100.0, 100.0], "equal"),
            ([100.0], [50.0], "undecided"),
        ],
    )
    def test_a_difference_counts_beyond_the_agreement_of_repeats(
        self, tmp_path: Path, base: list[float], adapter: list[float], outcome: str
    ) -> None:
        made = self.run(tmp_path, base=base, adapter=adapter).difference("memory.weights_mib", "adapter", "base")
        assert made.outcome == outcome
        assert (made.low, made.high) == (None, None)

    def test_only_what_was_measured_has_a_name(self, tmp_path: Path) -> None:
        assert self.run(tmp_path, base=[1.0]).measured.metric_names == ("memory.weights_mib",)

    def test_memory_has_no_slices(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="no slice"):
            self.run(tmp_path, base=[1.0]).estimate("memory.weights_mib", "base", slice=("source", "gp"))
