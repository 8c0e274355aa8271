"""The benchmark of latency on a GPU: what it says of two runs, and of a part that fails. Nothing is timed."""

from __future__ import annotations

import argparse
import json
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from benchmarks import ttft_twice
from benchmarks.latency_gpu import Benchmark, agreement, parts_of
from harness.errors import HarnessError
from harness.files import write_rows
from harness.passes.base import PassContext
from harness.store.schema import DialogueRow, LatencyRecord, MemoryRecord
from harness.variants.model import Variant


def cell(variant: str, ttft: float | None, tpot: float | None) -> dict[str, Any]:
    return {
        "variant": variant, "engine": "compiled", "batch": 1,
        "ttft_ms.p50": {"value": ttft}, "tpot_ms.p50": {"value": tpot},
    }  # fmt: skip


def test_two_runs_are_held_against_each_other_by_their_medians() -> None:
    found = agreement([cell("base", 20.0, 5.0)], [cell("base", 21.0, 5.05)])
    assert found["apart"] == {
        "base compiled 1 ttft_ms.p50": pytest.approx(0.05),
        "base compiled 1 tpot_ms.p50": pytest.approx(0.01),
    }
    assert found["worst"] == pytest.approx(0.05)
    assert not found["within_3_percent"]
    assert agreement([cell("base", 20.0, 5.0)], [cell("base", 20.2, 5.05)])["within_3_percent"]


@pytest.mark.parametrize("known", [None, 20.0])
def test_a_variant_without_a_figure_is_named_and_no_agreement(known: float | None) -> None:
    before = [cell("base", 20.0, 5.0), cell("base-nf4", known, known)]
    found = agreement(before, [cell("base", 20.0, 5.0), cell("base-nf4", None, None)])
    assert found["missing"] == ["base-nf4 compiled 1 ttft_ms.p50", "base-nf4 compiled 1 tpot_ms.p50"]
    assert (found["worst"], found["within_3_percent"]) == (0.0, False)


def test_a_part_that_fails_leaves_its_error_and_the_others_their_turn(tmp_path: Path) -> None:
    class Sitting(Benchmark):
        def __init__(self) -> None:
            self.options = argparse.Namespace(deadline=60.0, out=tmp_path / "made" / "out.json")
            self.started = time.monotonic()
            self.result = {"seconds": {}}

        def part_compiled(self) -> dict[str, Any]:
            raise RuntimeError("CUDA error")

        def part_memory(self) -> dict[str, Any]:
            return {"variants": {}}

    assert Sitting().run(["compiled", "memory"]) == ["compiled"]
    written = json.loads((tmp_path / "made" / "out.json").read_text())
    assert written["compiled"] == {"error": "RuntimeError: CUDA error"}
    assert written["memory"] == {"variants": {}}


def test_a_part_is_refused_without_the_one_it_is_held_against() -> None:
    assert parts_of("memory,peer,eager") == ("eager", "peer", "memory")
    for wrong in ("again", "memory,peer", "quick"):
        with pytest.raises(argparse.ArgumentTypeError):
            parts_of(wrong)


def sitting(work: Path) -> Benchmark:
    """A benchmark whose models were never made."""
    made = Benchmark.__new__(Benchmark)
    made.options = argparse.Namespace(deadline=60.0, out=work / "made" / "out.json", prompts=1, batches=1, repeats=1)
    made.work, made.device, made.started, made.pool = work, "cpu", time.monotonic(), None
    made.rows = (DialogueRow(id="one", prompt="w3"),)
    made.variants = tuple(Variant(name=name, kind="base", model="-") for name in ("base", "other"))
    return made


def test_what_was_timed_before_a_pass_failed_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(context: PassContext) -> None:
        record = {"id": "one", "key": "-", "workload": "fixed", "engine": "eager", "batch": 1, "repeat": 0, "order": 1}
        write_rows(context.folder.records_path("latency", "base"), [LatencyRecord(**record)])
        raise RuntimeError("CUDA error")

    monkeypatch.setattr("harness.passes.latency.run.run", fail)
    with pytest.raises(RuntimeError, match="CUDA error"):
        sitting(tmp_path).time("eager", "eager", 4)
    with tarfile.open(tmp_path / "made" / "out-eager.tar.gz") as archive:
        assert archive.getnames() == ["records/latency/base.jsonl"]


def test_a_process_that_dies_costs_no_other_variant_its_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def measure(context: PassContext) -> None:
        (variant,) = context.variants
        if variant.name == "base":
            raise HarnessError("The memory of 'base' could not be measured")
        record = MemoryRecord(id="repeat-0", key="-", device="cpu", peak_rss_mib=7.0)
        write_rows(context.folder.records_path("memory", variant.name), [record])

    monkeypatch.setattr("harness.passes.memory.run", measure)
    made = sitting(tmp_path)
    made.options.deadline = 0.0
    made.started -= 200.0  # no second round
    found = made.part_memory()
    assert found["variants"]["other"]["peak_rss_mib"] == 7.0
    assert [event["kind"] for event in found["events"]] == ["memory.failed"]


def test_ttft_of_two_processes_is_shown_side_by_side_with_the_hosts_part() -> None:
    def process(ttft: float, host: float | None) -> dict[str, Any]:
        return {"medians": {"base": {"ttft_ms": ttft, "ttft_host_ms": host}}, "notes": [{"detail": "a note"}]}

    runs = [process(20.0, 0.5), process(21.0, None)]
    assert ttft_twice.apart(*(one["medians"] for one in runs)) == {"base": pytest.approx(0.05)}
    assert ttft_twice.table("graphs", runs) == [
        "prompts as graphs: TTFT ms (host's part), one per process",
        "  a note",
        "  base         20.00 (0.50)  21.00 (none)  +5.0%",
    ]


@pytest.mark.slow
def test_ttft_is_timed_in_two_processes_and_without_cuda_without_graphs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    asked = ["--shape=tiny", "--device=cpu", "--variants=base", "--prompts=2", "--repeats=1"]
    monkeypatch.setattr("sys.argv", ["ttft_twice", *asked, f"--work={tmp_path}", f"--out={out}"])
    assert ttft_twice.main() == 0
    written = json.loads(out.read_text())
    runs = written["plain"]["runs"]
    assert "graphs" not in written
    assert len(runs) == 2
    assert all(one["medians"]["base"]["ttft_ms"] > 0 and one["medians"]["base"]["ttft_host_ms"] is None for one in runs)
    assert capsys.readouterr().out.splitlines()[-1].startswith("no CUDA: there are no graphs of prompts")
