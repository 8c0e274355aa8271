"""The job that is compared with other tools: done whole or not timed; their side with a stand-in for lm-eval."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.peers import jobs
from benchmarks.peers.jobs import Done, Job, Tried, by_harness, fastest_first, tried_batches
from benchmarks.peers.kernel_times import kind_of, short
from benchmarks.peers.limits import kernel_profile
from benchmarks.peers.lm_eval_gpu import Bench, parts_of
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.pool import SharedPool
from harness.variants.model import Variant
from tests.backends.local.small_models import dialogues

Trio = tuple[Variant, Variant, Variant]


def test_every_dialogue_of_every_variant_is_scored_and_replied_to(trio: Trio) -> None:
    done = by_harness(Job(trio, dialogues(5), 8, "cpu"))
    assert {name: len(found) for name, found in done.nll.items()} == {"base": 5, "adapter": 5, "merged": 5}
    assert {name: len(found) for name, found in done.reply.items()} == {"base": 5, "adapter": 5, "merged": 5}
    assert list(done.parts) == ["generation, with scoring", "scoring, what was left"]


def test_a_job_that_failed_in_part_has_no_time(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: SlotDecoder, slots: list[int], batch: list[Any], last: torch.Tensor) -> list[int]:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(SlotDecoder, "_begin", never)
    with pytest.raises(RuntimeError, match="base: only 0 of 5 dialogues were replied to"):
        by_harness(Job(trio, dialogues(5), 8, "cpu"))


class StandIn:
    """What stands for lm-eval's model: it runs out of memory above some batch size."""

    batch_size_per_gpu = 1

    def __init__(self, most: int) -> None:
        self.most = most

    def work(self, job: Job) -> tuple[list[Any], list[str], dict[str, float]]:
        if self.batch_size_per_gpu > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory")
        count = len(job.dialogues)
        seconds = {"scoring": float(count), "generation": count / self.batch_size_per_gpu}
        return [(-1.0, False)] * count, ["w1"] * count, seconds


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def install(most: int) -> None:
        def load(variant: Variant, batch: int, device: str) -> StandIn:
            model = StandIn(most)
            model.batch_size_per_gpu = batch
            return model

        monkeypatch.setattr(jobs, "lm_eval_model", load)
        monkeypatch.setattr(jobs, "lm_eval_work", lambda model, job: model.work(job))

    return install


def test_every_batch_size_is_tried_on_two_full_batches(trio: Trio, stand_in: Callable[[int], None]) -> None:
    stand_in(100)
    *_, tried = tried_batches(Job(trio, dialogues(12), 8, "cpu"), [2, 4, 16])
    assert [(batch, one.dialogues) for batch, one in tried.items()] == [(16, 12), (4, 8), (2, 4)]
    assert fastest_first(tried) == [16, 4, 2]


def test_a_batch_size_that_does_not_fit_is_named_and_not_chosen(trio: Trio, stand_in: Callable[[int], None]) -> None:
    stand_in(4)
    *_, tried = tried_batches(Job(trio, dialogues(12), 8, "cpu"), [2, 4, 16])
    assert tried[16].summary() == {"dialogues": 12, "seconds": None, "per_dialogue": None, "why": "out of memory"}
    assert fastest_first(tried) == [4, 2]


def bench(folder: Path) -> Bench:
    options = argparse.Namespace(device="cpu", seconds=600.0, out=folder / "out.json")
    return Bench(options)


def test_a_whole_job_that_does_not_fit_goes_to_the_next_best_batch_size(
    trio: Trio, stand_in: Callable[[int], None], tmp_path: Path
) -> None:
    stand_in(4)
    sitting = bench(tmp_path)
    sitting.tried = {16: Tried(12, 1.0), 4: Tried(8, 2.0), 2: Tried(4, 3.0)}
    sitting.theirs(Job(trio, dialogues(5), 8, "cpu"))
    found = sitting.result["lm_eval"]
    assert (found["batch"], found["out_of_memory_at"]) == (4, [16])
    assert set(found["parts"]) == {"base", "adapter", "merged"}


def test_times_faster_is_by_the_mean_of_this_harnesss_runs(trio: Trio, tmp_path: Path) -> None:
    sitting = bench(tmp_path)
    sitting.harness = [Done(seconds=40.0), Done(seconds=60.0)]
    sitting.lm_eval = Done(seconds=150.0, parts={variant.name: {} for variant in trio})
    sitting.compare(Job(trio, (), 8, "cpu"))
    assert sitting.result["times_faster"] == 3.0


def test_what_fails_and_what_there_is_no_time_for_is_named_and_the_rest_goes_on(tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("no")

    sitting = bench(tmp_path)
    sitting.started = time.perf_counter()
    sitting.part("first", fail)
    sitting.part("second", fail, needs=1000.0)
    sitting.part("third", lambda: sitting.result.update(third=3))
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["failed"], written["not_begun"]) == ({"first": "RuntimeError: no"}, ["second"])
    assert written["third"] == 3


def test_parts_are_run_in_their_order() -> None:
    assert parts_of("limits,harness") == ("harness", "limits")
    with pytest.raises(argparse.ArgumentTypeError, match="no part is called quick"):
        parts_of("quick")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("void pytorch_flash::flash_fwd_splitkv_kernel<Traits<128, cutlass::bfloat16_t>>", "attention"),
        ("_attend", "attention"),
        ("nvjet_tst_256x128_64x4_1x2_h_bz_coopA_NNT", "matrix products"),
        ("void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_16x16>", "matrix products"),
        ("void at::native::vectorized_elementwise_kernel<4, bfloat16_copy_kernel_cuda>", "copies and cache"),
        ("Memcpy DtoD (Device -> Device)", "copies and cache"),
        ("triton_red_fused__to_copy_add_mean_mul_pow_rsqrt_0", "norms, rotary and elementwise"),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::MeanOps>>",
         "norms, rotary and elementwise"),
        ("void (anonymous namespace)::softmax_warp_forward<float>", "other"),
    ],
)  # fmt: skip
def test_a_kernels_kind_is_read_off_its_name(name: str, kind: str) -> None:
    assert kind_of(name) == kind


def test_a_kernels_name_is_cut() -> None:
    assert short("void at::native::(anonymous namespace)::fill_kernel<4>") == "fill_kernel<4>"


def test_kernels_of_a_step_and_of_a_batch_are_timed_and_sorted(trio: Trio) -> None:
    pool = SharedPool(trio, "cpu")
    with pool.use(trio[0]) as loaded:
        found = kernel_profile(loaded, dialogues(5), graphs=False)
    assert (found["decoding_step"]["rows"], found["scoring_batch"]["rows"]) == (5, 5)
    for part in found.values():
        assert 0 < part["kernels_ms"] <= part["wall_ms"]
        assert sum(part["by_kind_ms"].values()) == pytest.approx(part["kernels_ms"])
        assert part["by_kind_ms"]["matrix products"] > 0
        spent = [milliseconds for _, milliseconds in part["longest_ms"]]
        assert len(spent) == 10
        assert spent == sorted(spent, reverse=True)
