"""The latency pass on the CPU: what is timed, what is written, and what an interruption leaves."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from harness.files import write_rows
from harness.passes.latency import run as latency
from harness.passes.latency.facts import read_facts
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, LatencyRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import context, dialogues, small_llama

Trio = tuple[Variant, Variant, Variant]
SMALL: dict[str, Any] = {
    "budget_minutes": None, "prompts": 2, "reply_tokens": 4, "repeats": 2, "batch_sizes": (2,), "batches": 1,
    "prompt_lengths": (16,),
}  # fmt: skip


def records(folder: Path, variant: str) -> list[LatencyRecord]:
    return RunFolder(folder).records(LatencyRecord, "latency", variant)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("harness.backends.local.backend.measure_limits", quick_limits)
    return {"device": "cpu", "generation": {"max_new_tokens": 6}, "latency": SMALL}


def quick_limits(device: str) -> Any:
    from harness.results.roofline import Limits

    return Limits(device, "float32", 1e10, 1e11)


def test_both_engines_time_every_workload_of_every_variant(
    trio: Trio, tmp_path: Path, settings: dict[str, Any]
) -> None:
    settings["latency"] = {**SMALL, "engine": "both"}
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    for variant in trio:
        found = Counter((row.engine, row.workload, row.batch) for row in records(tmp_path, variant.name))
        assert found == {
            (engine, *what): count
            for engine in ("eager", "compiled")
            for what, count in {("fixed", 1): 4, ("natural", 1): 2, ("prefill", 1): 2, ("sweep", 2): 2}.items()
        }


def test_fixed_replies_have_a_stamp_a_token(trio: Trio, tmp_path: Path, settings: dict[str, Any]) -> None:
    settings["latency"] = {**SMALL, "engine": "both"}
    latency.run(context(tmp_path, trio[:1], dialogues(4), **settings))
    for row in records(tmp_path, "base"):
        wanted = {"fixed": 4, "sweep": 4, "prefill": 1}.get(row.workload)
        assert wanted in (None, len(row.stamps_ns))
        assert row.submitted_ns < row.stamps_ns[0]
        assert list(row.stamps_ns) == sorted(row.stamps_ns)
    assert {row.prompt_tokens for row in records(tmp_path, "base") if row.workload == "prefill"} == {16}


def test_a_finished_pass_times_nothing_again(trio: Trio, tmp_path: Path, settings: dict[str, Any]) -> None:
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    before = records(tmp_path, "base")
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    assert records(tmp_path, "base") == before


def test_a_killed_pass_goes_on_and_times_torn_prompts_again_for_all(
    trio: Trio, tmp_path: Path, settings: dict[str, Any]
) -> None:
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    whole = {variant.name: records(tmp_path, variant.name) for variant in trio}
    path = RunFolder(tmp_path).records_path("latency", "merged")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:20])  # killed while writing the last unit's last record
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    for variant in trio:
        now = records(tmp_path, variant.name)
        torn = whole[variant.name][-1].id
        assert [row for row in now if row.id != torn] == [row for row in whole[variant.name] if row.id != torn]
        assert len(now) == len(whole[variant.name])
        assert {row.order for row in now if row.id == torn}.isdisjoint(row.order for row in whole[variant.name])


def test_records_of_prompts_that_are_no_longer_asked_are_dropped(
    trio: Trio, tmp_path: Path, settings: dict[str, Any]
) -> None:
    latency.run(context(tmp_path, trio[:1], dialogues(4), **settings))
    settings["latency"] = {**SMALL, "batch_sizes": (3,)}
    latency.run(context(tmp_path, trio[:1], dialogues(4), **settings))
    assert {row.batch for row in records(tmp_path, "base")} == {1, 3}


def test_memory_that_ends_one_variants_sweep_leaves_the_others(
    trio: Trio, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.local.timed import EagerEngine

    plain = EagerEngine.request

    def request(self: Any, prompts: Any, *rest: Any, **named: Any) -> Any:
        if len(prompts) >= 2 and self._loaded.variant.name == "adapter":
            raise RuntimeError("CUDA out of memory")
        return plain(self, prompts, *rest, **named)

    monkeypatch.setattr(EagerEngine, "request", request)
    settings["latency"] = {**SMALL, "batch_sizes": (2, 3)}
    events: list[tuple[str, dict[str, Any]]] = []
    latency.run(context(tmp_path, trio, dialogues(4), events=events, **settings))
    ended = {"pass": "latency", "variant": "adapter", "engine": "eager", "batch": 2}
    assert [detail for kind, detail in events if kind == "out-of-memory"] == [ended]
    failed = {row.batch for row in records(tmp_path, "adapter") if row.error == "out of memory"}
    assert failed == {2, 3}
    assert all(row.error is None for name in ("base", "merged") for row in records(tmp_path, name))


def test_memory_is_freed_only_when_the_error_that_holds_it_is_gone(
    trio: Trio, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.backends.local.timed import EagerEngine

    def request(self: Any, prompts: Any, *rest: Any, **named: Any) -> Any:
        raise RuntimeError("CUDA out of memory")

    handled: list[Any] = []
    monkeypatch.setattr(EagerEngine, "request", request)
    monkeypatch.setattr(
        "harness.backends.local.device.release_cached_memory", lambda device: handled.append(sys.exc_info()[0])
    )
    latency.run(context(tmp_path, trio[:1], dialogues(2), **settings))
    assert handled
    assert set(handled) == {None}


def test_a_variant_that_an_engine_refuses_keeps_the_conditions_it_was_asked_under(
    trio: Trio, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.results.timings import condition_of

    monkeypatch.setattr("harness.backends.local.timed.why_not", lambda *_, **__: "an encoder")
    settings["latency"] = {**SMALL, "engine": "both"}
    latency.run(context(tmp_path, trio[:1], dialogues(4), **settings))
    asked = {engine: set[Any]() for engine in ("eager", "compiled")}
    for row in records(tmp_path, "base"):
        assert (row.skipped == "an encoder") == (row.engine == "compiled")
        asked[row.engine].add(replace(condition_of(row), engine=""))
    assert asked["compiled"] == asked["eager"]


def test_every_length_of_prompt_is_met_before_it_is_timed_and_the_heap_is_set_aside(
    trio: Trio, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import gc

    from harness.backends.local.timed import EagerEngine

    plain = EagerEngine.request
    seen: list[tuple[int, bool]] = []

    def request(self: Any, prompts: Any, *rest: Any, **named: Any) -> Any:
        seen.append((len(prompts[0]) // 64, gc.get_freeze_count() > 0))
        return plain(self, prompts, *rest, **named)

    monkeypatch.setattr(EagerEngine, "request", request)
    rows = tuple(DialogueRow(id=str(words), prompt="w1 " * words) for words in (5, 90))
    settings["latency"] = {**SMALL, "reply_tokens": 2, "natural": False, "batch_sizes": (1,), "prompt_lengths": (256,)}
    latency.run(context(tmp_path, trio[:1], rows, **settings))
    warm, timed = ({length for length, frozen in seen if frozen is when} for when in (False, True))
    assert len(timed) > 1
    assert timed <= warm
    assert gc.get_freeze_count() == 0


def test_variants_that_do_not_fit_together_are_timed_one_after_another_and_it_is_said(
    trio: Trio, tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.backends.local.device.free_bytes", lambda device: 1000)
    events: list[tuple[str, dict[str, Any]]] = []
    latency.run(context(tmp_path, trio, dialogues(4), events=events, **settings))
    assert "latency-sequential" in {kind for kind, _ in events}
    assert not read_facts(RunFolder(tmp_path))["interleaved"]
    last = {variant.name: max(row.order for row in records(tmp_path, variant.name)) for variant in trio}
    first = {variant.name: min(row.order for row in records(tmp_path, variant.name)) for variant in trio}
    assert last["base"] < first["adapter"] <= last["adapter"] < first["merged"]


def test_rooflines_are_kept_with_the_run(trio: Trio, tmp_path: Path, settings: dict[str, Any]) -> None:
    latency.run(context(tmp_path, trio, dialogues(4), **settings))
    facts = read_facts(RunFolder(tmp_path))
    base, adapter = facts["variants"]["base"], facts["variants"]["adapter"]
    assert adapter["adapter_bytes"] > base["adapter_bytes"] == 0
    assert adapter["floor_ms"] > base["floor_ms"] > 0
    assert facts["warm_up"]["base/eager"]["seconds"] > 0
    assert facts["machine"][0]["after"]["threads"] == 1


def test_the_summary_names_every_condition_and_its_share_of_the_hardware(
    trio: Trio, tmp_path: Path, settings: dict[str, Any]
) -> None:
    from harness.metrics.loading import all_specs
    from harness.results.summarize import summarize
    from harness.store.schema import RunManifest

    settings["latency"] = {**SMALL, "engine": "both", "ttft_budget_ms": 60_000.0}
    asked = context(tmp_path, trio, dialogues(4), **settings)
    facts: dict[str, Any] = {}
    latency.run(replace(asked, fact=facts.__setitem__))
    asked.folder.write_manifest(
        RunManifest(
            state="complete",
            config=asked.config.model_dump(mode="json"),
            config_digest="",
            provenance=facts,
            variants=tuple(variant.model_dump(mode="json") for variant in trio),
        )
    )
    write_rows(asked.folder.dialogues_path, asked.dialogues)
    summary = summarize(asked.folder, registry=all_specs(asked.config.metric_options))
    names = set(summary.metrics)
    assert {
        "latency.tpot_ms.p50",
        "latency.mbu",
        "latency.goodput",
        "latency.mbu[engine=eager,batch=2]",
        "latency.tokens_per_s[engine=compiled,batch=2]",
        "latency.e2e_ms.p50[engine=eager,batch=1,workload=natural]",
        "latency.ttft_ms.p50[engine=eager,batch=1,prompt_tokens=16]",
        "latency.prefill_mfu[engine=compiled,batch=1,prompt_tokens=16]",
    } <= names
    assert not {name for name in names if name.startswith("latency.mbu") and "natural" in name}
    base = {name: metric.variants["base"].value for name, metric in summary.metrics.items()}
    assert base["latency.goodput"] == 1.0
    roofline = facts["roofline"]["base"]
    floor = roofline["floor_ms"]  # at the fixed prompts' own lengths and half the reply
    assert base["latency.mbu"] == pytest.approx(floor / base["latency.tpot_ms.p50"])
    operations = 2 * roofline["footprint"]["parameters"] * 16 + 2 * 2 * 64 * 16**2
    ttft = base["latency.ttft_ms.p50[engine=eager,batch=1,prompt_tokens=16]"]
    mfu = base["latency.prefill_mfu[engine=eager,batch=1,prompt_tokens=16]"]
    assert mfu == pytest.approx(operations / 1e11 / (ttft / 1e3))


@pytest.fixture
def spelling(tmp_path: Path) -> Variant:
    """A base whose tokenizer spells: more tokens a prompt and far fewer ids than the other variants have."""
    characters = ["<unk>", "<s>", "</s>", "w", *"0123456789"]
    tokenizer = Tokenizer(models.WordLevel({one: i for i, one in enumerate(characters)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    folder = tmp_path / "spelling"
    small_llama(5, vocab_size=len(characters), max_position_embeddings=64).save_pretrained(folder)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="</s>", unk_token="<unk>").save_pretrained(folder)
    return Variant(name="spelling", kind="base", model=str(folder), dtype="float32")


@pytest.mark.parametrize("first", ["base", "spelling"])
def test_each_variant_is_timed_with_its_own_tokenizers_prompts(
    trio: Trio, spelling: Variant, tmp_path: Path, settings: dict[str, Any], first: str
) -> None:
    variants = (trio[0], spelling) if first == "base" else (spelling, trio[0])
    rows = (DialogueRow(id="short", prompt="w1 w22"), DialogueRow(id="long", prompt=" ".join(["w101"] * 12)))
    run = context(tmp_path / "run", variants, rows, **settings)
    latency.run(run)
    backends = {variant.name: run.backends.of(variant) for variant in variants}
    for variant in variants:
        found = records(tmp_path / "run", variant.name)
        assert not any(row.error or row.skipped for row in found)
        assert {(row.workload, row.batch) for row in found} == {
            ("fixed", 1), ("natural", 1), ("prefill", 1), ("sweep", 2)
        }  # fmt: skip
        tokenizer: Any = backends[variant.name].tokenizer
        tokens = {row.id: row.prompt_tokens for row in found if row.workload == "fixed"}
        assert tokens == {row.id: len(tokenizer(row.prompt)["input_ids"]) for row in rows}
        assert {row.prompt_tokens for row in found if row.workload == "prefill"} == {16}
        assert {row.prompt_tokens for row in found if row.workload == "sweep"} == {max(tokens.values())}


def test_a_prompt_must_fit_the_shortest_context(
    trio: Trio, spelling: Variant, tmp_path: Path, settings: dict[str, Any]
) -> None:
    rows = (DialogueRow(id="short", prompt="w1 w22"), DialogueRow(id="long", prompt=" ".join(["w101"] * 20)))
    latency.run(context(tmp_path / "run", (trio[0], spelling), rows, **settings))
    for name in ("base", "spelling"):
        assert {row.id for row in records(tmp_path / "run", name) if row.workload == "fixed"} == {"short"}


@pytest.mark.parametrize("text", ["[" * 100_000, '{"machine": null}', '{"warm_up": [1]}', "[]", "\x00"])
def test_facts_that_cannot_be_read_are_collected_anew(text: str, tmp_path: Path) -> None:
    (tmp_path / "latency.json").write_text(text)
    assert read_facts(RunFolder(tmp_path))["machine"] == []
