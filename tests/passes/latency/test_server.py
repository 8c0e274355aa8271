"""The latency pass over served variants: closed loops, windows as units, and conditions of their own."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import Timed, TimedRequest
from harness.config import LatencyConfig
from harness.jobs.runner import run
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricOptions
from harness.passes.latency.server import ROUNDS, plan_for_server, questions_to_server
from harness.passes.latency.units import Prompts
from harness.results.summarize import summarize
from harness.results.timings import Condition, condition_of, served_together, tokens_and_seconds
from harness.store.schema import DialogueRow, LatencyRecord
from tests.backends.scripted import Scripted, ScriptedBackends
from tests.passes.test_registry import Opened, asked

SETTINGS: dict[str, Any] = {"prompts": 3, "reply_tokens": 4, "repeats": 1, "batches": 2, "budget_minutes": None}


def prompts(count: int) -> Prompts:
    rows = tuple(DialogueRow(id=f"d{n}", prompt="p") for n in range(count))
    return Prompts(rows, tuple((n,) * (n + 1) for n in range(count)), 100, 4)


def test_each_concurrency_has_windows_of_some_rounds_and_one_is_single_requests() -> None:
    units = plan_for_server(prompts(5), LatencyConfig(**SETTINGS, concurrency=(1, 4)))
    assert Counter((unit.workload, unit.batch, len(unit.prompts)) for unit in units) == {
        ("fixed", 1, 1): 3, ("sweep", 4, 4 * ROUNDS): 2,
    }  # fmt: skip
    assert {unit.engine for unit in units} == {"server"}
    assert len({unit.name for unit in units}) == len(units)


def test_within_a_budget_the_lowest_concurrency_is_asked_first() -> None:
    settings = LatencyConfig(**{**SETTINGS, "budget_minutes": 1.0}, concurrency=(16, 1, 4))
    found = questions_to_server(prompts(5), settings)
    assert [question.units[0].batch for question in found] == [1, 4, 16]
    assert [question.pilot for question in found] == [3, 2, 2]


def window(n: int, *, at: int, tokens: int = 5, error: str | None = None) -> LatencyRecord:
    stamps = () if error else tuple(at + 100 + 10 * token for token in range(tokens))
    return LatencyRecord(
        id=f"4-at-once-{n}", key="", engine="server", workload="sweep", batch=4, submitted_ns=at, stamps_ns=stamps,
        error=error,
    )  # fmt: skip


def test_a_window_is_one_unit_whose_throughput_counts_each_request_once() -> None:
    rows = [window(0, at=0), window(0, at=50), window(1, at=1000)]
    units = served_together(rows)
    assert {name: [len(one) for one in repeats.values()] for name, repeats in units.items()} == {
        "4-at-once-0": [2], "4-at-once-1": [1],
    }  # fmt: skip
    assert tokens_and_seconds(units["4-at-once-0"][0]) == (10.0, pytest.approx(190e-9))
    assert tokens_and_seconds(units["4-at-once-1"][0]) == (5.0, pytest.approx(140e-9))


def test_the_condition_of_a_server_names_its_concurrency() -> None:
    assert condition_of(window(0, at=0)) == Condition("server", 4)
    assert Condition("server", 4).suffix == "[engine=server,concurrency=4]"
    assert Condition("server", 4).as_dict() == {"engine": "server", "concurrency": 4, "workload": "fixed"}


class Served(Scripted):
    """A server: a request takes ten milliseconds a token, and the first of a window fails if ``fails``."""

    fails = False

    def timed(self, request: TimedRequest) -> Timed:
        self.asked.append(f"{request.at_once} of {len(request.prompts)}")
        each = []
        for place in range(len(request.prompts)):
            submitted, *stamps = (next(self._clock) for _ in range(1 + request.reply_tokens))
            failed = self.fails and place == 0 and request.at_once > 1
            each.append(Timed(submitted, error="no room") if failed else Timed(submitted, tuple(stamps)))
        return Timed(each=tuple(each))


@pytest.fixture
def mixed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A run of a local variant and one served twice."""
    from harness.jobs import prepare

    config = asked(tmp_path / "in", "latency", names=("base",))
    base = config.variants[0]
    assert not isinstance(base, str)
    served = {"kind": "endpoint", "url": "http://127.0.0.1:9/v1", "model": "m", "tokenizer": base.model}
    value = config.model_dump(mode="json", exclude_unset=True)
    value["variants"] = [*value["variants"], *({"name": name, **served} for name in ("one", "two"))]
    value["latency"] |= {"budget_minutes": None, "concurrency": [1, 2], "repeats": 1}
    backends: dict[str, Served] = {}

    class Both(Opened):
        def __call__(self, variants: Any, device: str, **options: Any) -> ScriptedBackends:
            made = super().__call__(variants, device, **options)
            for name in ("one", "two"):
                made.by_name[name] = backends.setdefault(name, Served())
            return made

    digests = dict.fromkeys(("one", "two"), "digest")
    monkeypatch.setattr(prepare, "served_digests", lambda variants: digests)
    return type(config).model_validate(value), Both(), backends


def test_a_run_times_servers_apart_from_what_runs_here(mixed: Any, tmp_path: Path) -> None:
    config, opened, backends = mixed
    folder = run(config, tmp_path / "run", backends=opened)
    found = {name: folder.records(LatencyRecord, "latency", name) for name in ("base", "one", "two")}
    assert {row.engine for row in found["base"]} == {"eager"}
    assert {row.engine for row in found["one"]} == {"server"}
    assert Counter(row.batch for row in found["one"]) == {1: 3, 2: 2 * ROUNDS}
    metrics = folder.read_summary().metrics
    assert set(metrics["latency.tpot_ms.p50"].variants) == {"base"}
    at_two = metrics["latency.tpot_ms.p50[engine=server,concurrency=2]"]
    assert {name: row.value for name, row in at_two.variants.items()} == {"one": 10.0, "two": 10.0}
    assert at_two.conditions["concurrency"] == 2
    compared = {(row.metric, row.variant, row.against) for row in folder.read_summary().comparisons}
    assert ("latency.tpot_ms.p50[engine=server,concurrency=2]", "two", "one") in compared
    assert "1 of 1" in backends["one"].asked
    assert f"2 of {2 * ROUNDS}" in backends["two"].asked


def test_failed_requests_are_a_rate_and_no_timings(mixed: Any, tmp_path: Path) -> None:
    config, opened, backends = mixed
    backends["one"] = Served()
    backends["one"].fails = True
    folder = run(config, tmp_path / "run", backends=opened)
    errors = summarize(folder, all_specs(MetricOptions()), resamples=200).metrics
    row = errors["latency.errors[engine=server,concurrency=2]"].variants
    assert row["one"].value == pytest.approx(1 / (2 * ROUNDS))
    assert row["two"].value == 0.0
    assert "latency.errors" not in errors
    rate = errors["latency.tokens_per_s[engine=server,concurrency=2]"].variants
    assert rate["two"].value == pytest.approx(4 * 2 * ROUNDS / (0.01 * (5 * 2 * ROUNDS - 1)))


def test_a_local_engine_stays_the_main_one_beside_a_server(mixed: Any, tmp_path: Path) -> None:
    config, opened, _ = mixed
    folder = run(config, tmp_path / "run", backends=opened)
    assert "latency.ttft_ms.p50" in folder.read_summary().metrics
