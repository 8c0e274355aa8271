"""A time budget: what is asked first, how much of it, what is said of the rest; on a machine with a simulated clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.backends.base import Timed, TimedRequest
from harness.config import LatencyConfig, RunConfig
from harness.passes.base import PassContext
from harness.passes.latency import run as latency
from harness.passes.latency import session
from harness.passes.latency.facts import read_facts
from harness.passes.latency.questions import questions, spread_prompts
from harness.passes.latency.units import Prompts
from harness.progress import EventKind, SilentProgress
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, LatencyRecord
from harness.variants.model import Variant
from tests.backends.scripted import ScriptedBackends

VARIANTS = tuple(Variant(name=name, kind="base", model="-") for name in ("base", "adapter", "merged"))
SETTINGS: dict[str, Any] = {
    "budget_minutes": 100.0, "prompts": 8, "batches": 6, "reply_tokens": 11, "batch_sizes": (4,),
    "prompt_lengths": (32,), "natural": False, "warmup": 0,
}  # fmt: skip


class Killed(BaseException):
    """Stands for the process's end."""


class Machine(ScriptedBackends):
    """Serves a step in 100 ms, give or take ``noise`` for each request; ends after ``requests``."""

    def __init__(self, noise: float, seed: int = 1, requests: int = 10**6) -> None:
        super().__init__(VARIANTS)
        self.rng = np.random.default_rng(seed)
        self.now = 0
        self.noise = noise
        self.left = requests
        for backend in self.by_name.values():
            backend.timed = self.timed  # type: ignore[method-assign]

    def timed(self, request: TimedRequest) -> Timed:
        self.left -= 1
        if self.left < 0:
            raise Killed
        step = round(1e8 * math.exp(self.rng.normal(0, self.noise)))
        submitted = self.now
        stamps = tuple(submitted + step * (token + 1) for token in range(request.reply_tokens))
        self.now = stamps[-1]
        return Timed(submitted, stamps)


class Hardware(Machine):
    """Like a GPU: plain ``generate`` takes its time, batches take longer, and a new shape is captured first.

    ``now`` is its clock, of which stamps are only a part.
    """

    def __init__(self) -> None:
        super().__init__(noise=0.1)
        self.captured = set[tuple[Any, ...]]()

    def timed(self, request: TimedRequest) -> Timed:
        compiled, rows = request.engine == "compiled", len(request.prompts)
        shape = (request.engine, rows, request.reply_tokens, len(request.prompts[0]))
        setup = 0 if not compiled or shape in self.captured else 100_000_000
        self.captured.add(shape)
        step = round((6e6 if compiled else 30e6) * (1 + rows / 32) * math.exp(self.rng.normal(0, self.noise)))
        submitted = self.now + setup
        stamps = tuple(submitted + step * (token + 1) for token in range(request.reply_tokens))
        self.now = stamps[-1]
        return Timed(submitted, stamps, setup_seconds=setup / 1e9)

    def release(self) -> None:
        self.captured.clear()


class Notes(SilentProgress):
    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, message: str) -> None:
        self.said.append(message)


def time_on(machine: Machine, folder: Path, prompts: int = 64, **changes: Any) -> tuple[list[str], list[str]]:
    """Run the pass; return what the terminal and the events say."""
    notes, events = Notes(), list[str]()

    def event(kind: object, detail: Mapping[str, Any]) -> None:
        if kind is EventKind.LATENCY_BUDGET:
            events.append(detail["detail"])

    context = PassContext(
        folder=RunFolder(folder),
        config=RunConfig(variants=VARIANTS, latency=LatencyConfig(**{**SETTINGS, **changes})),
        variants=VARIANTS,
        dialogues=tuple(DialogueRow(id=f"p{n}", prompt="word " * (5 + n)) for n in range(prompts)),
        backends=machine,
        device="cpu",
        progress=notes,
        key=lambda name, variant, row: row.id,
        event=event,
        fact=lambda name, value: None,
    )
    latency.run(context)
    return notes.said, events


def counts(folder: Path, variant: str = "base") -> Counter[str]:
    return Counter(row.workload for row in records(folder, variant))


def records(folder: Path, variant: str) -> list[LatencyRecord]:
    return RunFolder(folder).records(LatencyRecord, "latency", variant)


def test_a_steady_machine_is_asked_the_pilots_alone(tmp_path: Path) -> None:
    said, events = time_on(Machine(noise=0.002), tmp_path)
    assert counts(tmp_path) == {"fixed": 8, "sweep": 6, "prefill": 6}
    assert len(said) == 1
    assert "batch 1 on the eager engine: ±0." in said[0]
    assert "±2 % asked for" in said[0]
    assert events == []


def test_a_noisy_machine_is_asked_until_the_precision_is_reached(tmp_path: Path) -> None:
    time_on(Machine(noise=0.02), tmp_path, natural=True)
    first = read_facts(RunFolder(tmp_path))["precision"]["questions"][0]
    assert first["timed"] == first["needed"] > 8
    assert max(first["reached"].values()) <= 0.02
    assert counts(tmp_path)["natural"] == 6  # no precision is asked for


def test_prompts_that_run_out_are_timed_again(tmp_path: Path) -> None:
    time_on(Machine(noise=0.03), tmp_path, prompts=10)
    fixed = [row for row in records(tmp_path, "base") if row.workload == "fixed"]
    assert len(fixed) > 10
    assert {row.id for row in fixed} == {f"p{n}" for n in range(10)}
    assert len({(row.id, row.repeat) for row in fixed}) == len(fixed)


def test_a_budget_that_ends_says_what_was_reached_and_what_was_not_timed(tmp_path: Path) -> None:
    # A request takes 1.1 s: two minutes hold 36 units of three variants, half of them for the first question.
    sizes = {"batch_sizes": (4, 8, 16, 32, 64), "prompt_lengths": (9999,)}
    said, events = time_on(Machine(noise=0.1), tmp_path, budget_minutes=2.0, **sizes)
    timed = read_facts(RunFolder(tmp_path))["precision"]
    assert 120 - 4 < timed["spent_seconds"] < 120 + 4  # a unit's time is foreseen only roughly
    assert timed["questions"][0]["timed"] < timed["questions"][0]["needed"]
    assert said[-1] == (
        "Latency: Not timed within 2 minutes: batch 32 on the eager engine, batch 64 on the eager engine. "
        "Raise latency.budget_minutes for these."
    )
    assert len(events) == 1
    assert "reached, ±2 % asked for" in events[0]
    assert "less precise than ±2 %: batch 4 on the eager engine (±" in events[0]


def test_the_smallest_budget_times_one_prompt(tmp_path: Path) -> None:
    time_on(Machine(noise=0.1), tmp_path, budget_minutes=0.001)
    assert {variant.name: counts(tmp_path, variant.name) for variant in VARIANTS} == {
        name: {"fixed": 1} for name in ("base", "adapter", "merged")
    }


@pytest.mark.parametrize("requests", [1, 25, 70])
def test_a_killed_pass_goes_on_to_the_same_plan_and_times_nothing_twice(tmp_path: Path, requests: int) -> None:
    with pytest.raises(Killed):
        time_on(Machine(noise=0.02, requests=requests), tmp_path)
    before = {variant.name: records(tmp_path, variant.name) for variant in VARIANTS}
    time_on(Machine(noise=0.02, seed=2), tmp_path)
    for name, rows in before.items():
        after = records(tmp_path, name)
        assert after[: len(rows)] == rows
        slots = [(row.workload, row.batch, row.id, row.repeat) for row in after]
        assert len(set(slots)) == len(slots)
    again = Machine(noise=0.02, requests=0)  # which would end at the first request
    time_on(again, tmp_path)


def test_what_a_killed_pass_spent_counts(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        time_on(Machine(noise=0.3, requests=60), tmp_path, budget_minutes=2.0)
    time_on(Machine(noise=0.3, seed=2), tmp_path, budget_minutes=2.0)
    rows = [row for variant in VARIANTS for row in records(tmp_path, variant.name)]
    spent = sum(row.stamps_ns[-1] - row.submitted_ns for row in rows) / 1e9
    assert 110 < spent < 130


@pytest.mark.parametrize("minutes", [1.0, 3.0, 5.0])
def test_warm_up_and_captures_are_within_the_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, minutes: float
) -> None:
    machine = Hardware()
    monkeypatch.setattr(session.time, "perf_counter", lambda: machine.now / 1e9)
    asked = {"engine": "both", "reply_tokens": 128, "batch_sizes": (4, 16, 64), "prompt_lengths": (32, 512)}
    time_on(machine, tmp_path, budget_minutes=minutes, warmup=1, natural=True, **asked)
    facts = read_facts(RunFolder(tmp_path))
    assert 0.95 * minutes < machine.now / 6e10 < 1.01 * minutes
    assert facts["precision"]["spent_seconds"] == pytest.approx(machine.now / 1e9)
    untimed = sum(one["seconds"] for one in facts["warm_up"].values())
    rows = [row for variant in VARIANTS for row in records(tmp_path, variant.name)]
    timed = sum((row.stamps_ns[-1] - row.submitted_ns) / 1e9 + row.setup_seconds for row in rows)
    assert untimed + timed == pytest.approx(machine.now / 1e9)
    assert sum(row.setup_seconds for row in rows) > 0


def test_a_warm_up_that_would_not_end_in_time_is_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(noise=0.0)
    monkeypatch.setattr(session.time, "perf_counter", lambda: machine.now / 1e9)
    # Eight units of three variants take 26.4 s, their warm-up 2.4 s; another question 2.4 s and 3.3 s a unit.
    time_on(machine, tmp_path, budget_minutes=33 / 60, warmup=1, precision=0.5, prompt_lengths=(9999,))
    assert counts(tmp_path) == {"fixed": 8}
    assert machine.now / 1e9 == pytest.approx(28.8)


def test_a_new_question_is_expected_to_be_as_slow_as_the_slowest_of_its_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Hardware()
    monkeypatch.setattr(session.time, "perf_counter", lambda: machine.now / 1e9)
    asked = {"engine": "both", "reply_tokens": 128, "batch_sizes": (16, 32, 64), "prompt_lengths": (9999,)}
    time_on(machine, tmp_path, budget_minutes=5.5, **asked)
    rates = Counter((row.engine, row.batch) for row in records(tmp_path, "base"))
    assert rates["compiled", 64] == 6
    assert machine.now / 1e9 < 330


def test_time_between_requests_is_part_of_the_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(noise=0.1)
    monkeypatch.setattr(session.time, "perf_counter", lambda: 3 * machine.now / 1e9)  # two of three seconds
    time_on(machine, tmp_path, budget_minutes=2.0)
    stamped = sum(
        row.stamps_ns[-1] - row.submitted_ns for variant in VARIANTS for row in records(tmp_path, variant.name)
    )
    assert 30 < stamped / 1e9 < 42
    before = records(tmp_path, "base")
    time_on(Machine(noise=0.1, requests=0), tmp_path, budget_minutes=2.0)
    assert records(tmp_path, "base") == before


def test_records_of_a_pass_without_a_budget_are_kept(tmp_path: Path) -> None:
    time_on(Machine(noise=0.002), tmp_path, budget_minutes=None, prompts=64, repeats=3, batch_sizes=(1,))
    before = [row for row in records(tmp_path, "base") if row.workload == "fixed"]
    time_on(Machine(noise=0.002), tmp_path)
    kept = [row for row in records(tmp_path, "base") if row.workload == "fixed"]
    assert kept[: len(before)] == before


def test_each_unit_has_the_mirror_image_of_the_order_before(tmp_path: Path) -> None:
    time_on(Machine(noise=0.002), tmp_path)
    rows = sorted((row.order, v.name, row) for v in VARIANTS for row in records(tmp_path, v.name))
    fixed = [name for _, name, row in rows if row.workload == "fixed"]
    units = [fixed[start : start + 3] for start in range(0, len(fixed), 3)]
    assert all(one == other[::-1] for one, other in zip(units[::2], units[1::2], strict=True))
    assert len({tuple(one) for one in units}) > 2


def test_the_run_engines_batch_1_comes_first_and_plain_generate_in_batches_last() -> None:
    rows = tuple(DialogueRow(id=str(n), prompt="") for n in range(20))
    held_out = Prompts(rows, tuple((0,) * (10 + n) for n in range(20)), context=1024, longest_reply=64)
    asked = questions(held_out, LatencyConfig(batch_sizes=(16, 4), prompt_lengths=(32,)), "cuda:0")
    order = [(one.stage.engine, one.stage.workload, one.units[0].batch) for one in asked]
    assert order == [
        ("compiled", "fixed", 1), ("compiled", "sweep", 4), ("compiled", "sweep", 16),
        ("eager", "fixed", 1), ("compiled", "prefill", 1), ("eager", "prefill", 1), ("compiled", "natural", 1),
        ("eager", "natural", 1), ("eager", "sweep", 4), ("eager", "sweep", 16),
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 8, 20])
def test_any_first_few_prompts_span_the_lengths(count: int) -> None:
    lengths = list(range(100, 164))[::-1]
    chosen = spread_prompts(lengths, 1000)
    assert sorted(chosen) == list(range(64))
    taken = sorted(lengths[index] for index in chosen[:count])
    gaps = np.diff([*taken, 164])
    assert max(gaps) <= 2 * 64 / count
    assert spread_prompts([10, 999, 20], 100) == [0, 2]


@pytest.fixture(autouse=True)
def _no_warm_up_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.time, "perf_counter", lambda: 0.0)
