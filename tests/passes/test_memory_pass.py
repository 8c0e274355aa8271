"""The memory pass: fresh processes, whatever this one holds; repeats that disagree are said to."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import MemoryWorkload
from harness.backends.local import memory_worker
from harness.backends.local.backend import LocalBackends
from harness.backends.local.memory_worker import FreshProcess, disk_mib, peak_rss_bytes
from harness.backends.local.pool import SharedPool
from harness.errors import HarnessError
from harness.passes import memory
from harness.results.memory import Memory
from harness.results.memory_fits import memory_table
from harness.store.folder import RecordWriter, RunFolder
from harness.store.schema import MemoryRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import context

Trio = tuple[Variant, Variant, Variant]
WORKLOAD = MemoryWorkload(batch=1, prompt_tokens=8, reply_tokens=2)
SETTINGS: dict[str, Any] = {
    "device": "cpu",
    "threads": 1,
    "memory": {"prompt_tokens": 8, "reply_tokens": 2, "repeats": 1},
}


@pytest.mark.slow
def test_what_this_process_holds_is_not_charged_to_the_variant(trio: Trio, tmp_path: Path) -> None:
    before = FreshProcess().measure(trio[0], "cpu", 1, WORKLOAD)
    held = np.ones(400 * 2**20 // 8)  # touched, so that it is resident
    assert peak_rss_bytes() > held.nbytes
    after = FreshProcess().measure(trio[0], "cpu", 1, WORKLOAD)
    assert after["peak_rss_mib"] == pytest.approx(before["peak_rss_mib"], rel=0.01)
    assert before["weights_mib"] == after["weights_mib"] > 0


@pytest.mark.slow
def test_a_variant_that_cannot_be_loaded_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    variant = Variant(name="gone", kind="base", model=str(tmp_path / "nowhere"))
    asked = context(tmp_path / "run", (variant,), (), **SETTINGS)
    with pytest.raises(HarnessError, match=r"memory of 'gone' could not be measured: .*nowhere"):
        memory.run(asked)
    assert asked.folder.records(MemoryRecord, "memory", "gone") == []


def test_a_variant_that_does_not_fit_is_an_answer_that_the_run_reports(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering('{"error": "Variant does not fit"}', monkeypatch)
    events: list[tuple[str, dict[str, Any]]] = []
    asked = context(tmp_path, trio[:1], (), events=events, **SETTINGS)
    memory.run(asked)
    memory.run(asked)  # an answer: not asked again
    assert [record.error for record in asked.folder.records(MemoryRecord, "memory", "base")] == ["Variant does not fit"]
    assert events == [("does-not-fit", {"pass": "memory", "variant": "base", "detail": "Variant does not fit"})]
    assert memory_table(asked.folder, ["base"])["variants"]["base"]["error"] == "Variant does not fit"


def answering(lines: str, monkeypatch: pytest.MonkeyPatch, code: str = "") -> None:
    """Let the fresh process be a Python that prints ``lines``."""
    monkeypatch.setattr(memory_worker, "WORKER", ["-c", f"print('''{lines}'''); {code}"])


def test_a_process_that_was_killed_is_no_answer_and_is_started_again_by_the_next_run(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import json, os, sys; 'merged' in sys.stdin.read() or os.kill(os.getpid(), 9); "
        "print(json.dumps({'peak_rss_mib': 1.0}))"
    )
    monkeypatch.setattr(memory_worker, "WORKER", ["-c", code])
    asked = context(tmp_path, trio, (), **SETTINGS)
    with pytest.raises(HarnessError, match=r"memory of 'base' .* killed by signal 9.* Run the same command"):
        memory.run(asked)
    measured = {one.name: asked.folder.records(MemoryRecord, "memory", one.name) for one in trio}
    assert {name: len(records) for name, records in measured.items()} == {"base": 0, "adapter": 0, "merged": 1}
    answering('{"peak_rss_mib": 2.0}', monkeypatch)
    memory.run(asked)
    peaks = [asked.folder.records(MemoryRecord, "memory", one.name)[0].peak_rss_mib for one in trio]
    assert peaks == [2.0, 2.0, 1.0]


def test_a_process_that_says_nothing_useful_fails_the_pass(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering("no json", monkeypatch)
    with pytest.raises(HarnessError, match="base"):
        FreshProcess().measure(trio[0], "cpu", None, WORKLOAD)


def test_every_repeat_is_a_process_of_its_own(trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory_worker, "WORKER", ["-c", "import os, json; print(json.dumps({'pid': os.getpid()}))"])
    asked = context(tmp_path, trio[:2], (), **{**SETTINGS, "memory": {"repeats": 2}})
    memory.run(asked)
    pids = [r.model_extra["pid"] for v in trio[:2] for r in asked.folder.records(MemoryRecord, "memory", v.name)]
    assert len(set(pids) | {os.getpid()}) == 5


def test_on_cuda_the_next_process_is_started_while_one_measures_and_ended_with_the_backends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(memory_worker, "WORKER", ["-c", "import sys; sys.stdin.read()"])
    for device, waits in (("cpu", False), ("cuda:0", True)):
        backends = LocalBackends((), device, event=lambda kind, detail: None, pool=SharedPool(()))
        backends.fresh_process().end()
        waiting = backends._waiting
        assert (waiting is not None) is waits
        if waiting is not None:
            assert backends.fresh_process() is waiting
            waiting.end()
            last = backends._waiting
            backends.close()
            assert last is not None
            assert last._process.returncode == -signal.SIGKILL


def test_disk_counts_an_adapters_base_too(trio: Trio) -> None:
    base, adapter, _ = (disk_mib(variant) or 0.0 for variant in trio)
    assert adapter > base > 0


def written(folder: Path, peaks: list[float], **more: Any) -> RunFolder:
    run = RunFolder(folder)
    with RecordWriter(run.records_path("memory", "base")) as writer:
        rows = [MemoryRecord(id=f"repeat-{i}", key="k", peak_rss_mib=peak, **more) for i, peak in enumerate(peaks)]
        writer.append(rows)
    return run


def test_repeats_within_a_percent_agree_and_others_do_not(tmp_path: Path) -> None:
    close = memory_table(written(tmp_path / "a", [1000.0, 1009.0]), ["base"])["variants"]["base"]
    apart = memory_table(written(tmp_path / "b", [1000.0, 1020.0]), ["base"])["variants"]["base"]
    alone = memory_table(written(tmp_path / "c", [1000.0]), ["base"])["variants"]["base"]
    assert (close["repeats_agree"], apart["repeats_agree"], alone["repeats_agree"]) == (True, False, None)
    assert apart["peak_rss_mib"] == 1010.0


def test_what_fits_is_weights_cache_activations_and_the_drivers_share(tmp_path: Path) -> None:
    on_card = {
        "device": "cuda:0", "weights_mib": 13000.0, "peak_allocated_mib": 13200.0, "peak_reserved_mib": 13300.0,
        "nvml_used_mib": 13800.0, "activations_mib": 40.0, "kv_cache_mib": 100.0, "kv_bytes_per_token": 2**19,
        "workload": {"batch": 1, "prompt_tokens": 128, "shorter_prompt_tokens": 32},
        "activations_prompt_mib": 100.0, "activations_shorter_mib": 52.0,
    }  # fmt: skip
    table = memory_table(written(tmp_path, [1.0], **on_card), ["base"])
    rows = {(row["batch"], row["context"]): row for row in table["fits"]}
    assert rows[1, 1024]["need_mib"] == pytest.approx(13000 + 512 + 36 + 0.5 * 1024 + 500)
    assert rows[1, 1024]["fits"] == {"8": False, "12": False, "16": True, "24": True, "40": True, "80": True}
    assert rows[32, 2048]["need_mib"] == pytest.approx(13000 + 32768 + 36 + 0.5 * 32 * 2048 + 500)


class FakeCuda:
    """Stands for ``torch.cuda``'s allocator: what is held now, and the most since the last reset."""

    def __init__(self) -> None:
        self.held = self.most = 0

    def take(self, size: int) -> None:
        self.held += size
        self.most = max(self.most, self.held)

    def reset_peak_memory_stats(self, device: str) -> None:
        self.most = self.held

    def max_memory_allocated(self, device: str) -> int:
        return self.most

    max_memory_reserved = max_memory_allocated

    def synchronize(self, device: str) -> None:
        pass


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    """A card on which a token takes 1 MiB of cache, 2 MiB of activations while it is a prompt's, and nothing after."""
    from types import SimpleNamespace

    import torch

    fake = FakeCuda()
    for name in ("reset_peak_memory_stats", "max_memory_allocated", "max_memory_reserved", "synchronize"):
        monkeypatch.setattr(torch.cuda, name, getattr(fake, name))
    monkeypatch.setattr(torch, "zeros", lambda *_, **__: None)
    monkeypatch.setattr(memory_worker.Card, "_nvml", lambda self: {"device": 0, "process": None})

    def workload(model: Any, batch: int, prompt: int, reply: int) -> int:
        before = fake.held
        fake.take(3 * batch * prompt * 2**20)  # cache and activations of the prompt
        fake.held = before
        fake.take(batch * (prompt + reply - 1) * 2**20)
        fake.held = before
        return batch * (prompt + reply - 1) * 2**20

    monkeypatch.setattr(memory_worker, "run_workload", workload)
    text = SimpleNamespace(max_position_embeddings=4096)
    fake.model = SimpleNamespace(config=SimpleNamespace(get_text_config=lambda: text))  # type: ignore[attr-defined]
    return fake


def test_activations_grow_with_the_prompt_whatever_the_reply_takes(cuda: FakeCuda, tmp_path: Path) -> None:
    weights = 1000 * 2**20
    card = memory_worker.Card("cuda:0")
    cuda.take(weights)
    growth = card.try_prompts(cuda.model, weights, 1, 128, 200)  # type: ignore[attr-defined]
    assert (growth["activations_shorter_mib"], growth["activations_prompt_mib"]) == (64.0, 256.0)
    cache = memory_worker.run_workload(cuda.model, 1, 128, 200)  # type: ignore[attr-defined]
    found = {**card.peaks(weights, cache), **growth, "device": "cuda:0", "weights_mib": 1000.0}
    run = written(tmp_path, [1.0], **found, kv_bytes_per_token=2**20)
    need = {(row["batch"], row["context"]): row["need_mib"] for row in memory_table(run, ["base"])["fits"]}
    assert need[1, 1024] == pytest.approx(1000 + 1024 + 2 * 1024)


def test_a_card_must_hold_what_loading_takes_too(cuda: FakeCuda, tmp_path: Path) -> None:
    weights = 1000 * 2**20
    card = memory_worker.Card("cuda:0")
    cuda.take(9 * weights)
    cuda.held = weights
    growth = card.try_prompts(cuda.model, weights, 1, 128, 32)  # type: ignore[attr-defined]
    cache = memory_worker.run_workload(cuda.model, 1, 128, 32)  # type: ignore[attr-defined]
    found = {**card.peaks(weights, cache), **growth, "device": "cuda:0", "weights_mib": 1000.0}
    assert (found["peak_loading_mib"], found["peak_allocated_mib"]) == (9000.0, 1000.0 + 3 * 128)
    run = written(tmp_path, [1.0], **{**found, "peak_reserved_mib": 9000.0}, kv_bytes_per_token=2**20)
    table = memory_table(run, ["base"])
    assert table["variants"]["base"]["peak_loading_mib"] == 9000.0
    assert {row["need_mib"] for row in table["fits"] if row["context"] == 1024} == {9000.0}


def test_what_the_card_held_is_read_before_any_library_may_open_it(monkeypatch: pytest.MonkeyPatch) -> None:
    class OpenedError(Exception):
        pass

    def opened(device: str) -> None:
        raise OpenedError

    monkeypatch.setattr(memory_worker, "Card", opened)
    monkeypatch.setattr(memory_worker, "import_for", lambda variants: pytest.fail("a library came first"))
    variant = Variant(name="base", kind="base", model="-", quantization="nf4")
    with pytest.raises(OpenedError):
        memory_worker.measure({"device": "cuda:0", "variant": variant.model_dump(mode="json")})


def test_a_driver_that_names_no_processes_still_tells_the_cards_use(monkeypatch: pytest.MonkeyPatch) -> None:
    import pynvml

    def refused(handle: Any) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    class Info:
        used = 7

    for name in ("nvmlInit", "nvmlShutdown"):
        monkeypatch.setattr(pynvml, name, lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByIndex", lambda index: index)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetMemoryInfo", lambda handle: Info)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", refused)
    card = memory_worker.Card.__new__(memory_worker.Card)
    card.device = "cuda:0"
    assert card._nvml() == {"device": 7, "process": None}


PARTS: dict[str, Any] = {
    "device": "cuda:0", "weights_mib": 13000.0, "kv_cache_mib": 159.0, "peak_allocated_mib": 13240.0,
    "activations_mib": 81.0, "activations_prompt_mib": 100.0,
    "workload": {"batch": 1, "prompt_tokens": 128, "reply_tokens": 32, "shorter_prompt_tokens": 32},
}  # fmt: skip


@pytest.mark.parametrize(
    ("device", "changes", "processes"),
    [
        ("cuda:0", {}, 1),
        ("cuda:0", {"peak_allocated_mib": 13700.0}, 2),  # 440 MiB that no part accounts for
        ("cuda:0", {"peak_allocated_mib": 12900.0}, 2),  # less than the weights alone
        ("cuda:0", {"activations_prompt_mib": None}, 2),
        ("cpu", {}, 2),
    ],
)
def test_a_second_process_is_started_where_the_first_does_not_settle_it(
    trio: Trio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, changes: dict[str, Any], processes: int
) -> None:
    answering(json.dumps({**PARTS, **changes}), monkeypatch)
    asked = replace(context(tmp_path, trio[:1], (), device="cpu"), device=device)
    memory.run(asked)
    assert len(asked.folder.records(MemoryRecord, "memory", "base")) == processes
    memory.run(asked)
    assert len(asked.folder.records(MemoryRecord, "memory", "base")) == processes


@pytest.mark.parametrize(
    ("metric", "theirs", "outcome"),
    [
        ("memory.peak_allocated_mib", [13240.0], "equal"),
        ("memory.peak_allocated_mib", [14000.0], "better"),
        ("memory.peak_allocated_mib", [13241.0], "undecided"),  # within 1 %
        ("memory.nvml_used_mib", [14000.0], "undecided"),  # which other processes change
    ],
)
def test_one_process_decides_what_repeats_to_the_byte(
    tmp_path: Path, metric: str, theirs: list[float], outcome: str
) -> None:
    found = Memory(written(tmp_path, [1.0], **PARTS, nvml_used_mib=13500.0), ("base",))
    assert found.difference(metric, "base", theirs, 0.95, False).outcome == outcome
