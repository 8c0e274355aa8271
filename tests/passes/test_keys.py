"""A record's key changes with everything its result depends on, and with nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.config import GenerationConfig, LatencyConfig, MemoryConfig, RunConfig, StatsConfig
from harness.dialogues.model import DialogueConfig
from harness.files import digest_value
from harness.passes import keys
from harness.passes.keys import config_digest, record_key
from harness.store.schema import ChatText, DialogueRow
from harness.variants.folders import settings_digests
from harness.variants.model import Variant
from harness.variants.relations import FidelityPair

VARIANT = Variant(name="base", kind="base", model="m")
ROW = DialogueRow(id="1", prompt="p", reference="r")


def key_of(pass_name: str = "generation", row: DialogueRow = ROW, **changes: Any) -> str:
    variant = changes.pop("variant", VARIANT)
    weights = changes.pop("weights", "w")
    template = changes.pop("template", "t")
    machine = changes.pop("machine", "here")
    device = changes.pop("device", "cpu")
    config = RunConfig(variants=(variant,), **changes)
    return record_key(config, (variant,), {variant.name: weights}, template, machine, device)(pass_name, variant, row)


@pytest.mark.parametrize(
    "changes",
    [
        {"weights": "other"},
        {"template": "other"},
        {"variant": VARIANT.model_copy(update={"quantization": "nf4"})},
        {"variant": VARIANT.model_copy(update={"dtype": "float32"})},
        {"generation": GenerationConfig(max_new_tokens=7)},
        {"device": "cuda:0"},
        {"row": DialogueRow(id="1", prompt="other", reference="r")},
        {"row": DialogueRow(id="1", prompt="p", reference="other")},
    ],
)
def test_another_question_has_another_key(changes: dict[str, Any]) -> None:
    assert key_of(**changes) != key_of()


@pytest.mark.parametrize("changes", [{"latency": LatencyConfig(repeats=9)}, {"machine": "there"}, {"threads": 7}])
def test_replies_do_not_depend_on_how_latency_is_measured(changes: dict[str, Any]) -> None:
    assert key_of(**changes) == key_of()


def test_replies_do_not_depend_on_which_gpu_of_a_machine_made_them() -> None:
    assert key_of(device="cuda:1") == key_of(device="cuda:0")


def test_replies_and_config_are_those_of_before_wherever_the_layers_are() -> None:
    spread = RunConfig(variants=(VARIANT,), placement="auto")
    assert key_of(placement="auto", device="cuda") == key_of(device="cuda:0")
    assert config_digest(spread) != config_digest(RunConfig(variants=(VARIANT,)))
    assert config_digest(RunConfig(variants=(VARIANT,), placement="single")) == config_digest(
        RunConfig(variants=(VARIANT,))
    )


def test_timings_depend_on_the_machine() -> None:
    assert key_of("latency", machine="there") != key_of("latency")


def test_passes_have_keys_of_their_own() -> None:
    assert key_of("scoring") != key_of("generation")


def test_seed_matters_only_when_sampling() -> None:
    assert key_of(seed=1) == key_of(seed=2)
    hot = GenerationConfig(temperature=0.7)
    assert key_of(seed=1, generation=hot) != key_of(seed=2, generation=hot)


@pytest.mark.parametrize("name", ["config.json", "generation_config.json", "tokenizer.json"])
def test_another_file_beside_the_weights_has_another_digest(tmp_path: Path, name: str) -> None:
    variants = (VARIANT.model_copy(update={"model": str(tmp_path)}),)
    (tmp_path / name).write_text("{}")
    before = settings_digests(variants)
    (tmp_path / name).write_text('{"eos_token_id": 7}')
    assert settings_digests(variants) != before


def test_a_chat_template_that_joins_the_reference_in_another_way_makes_another_key() -> None:
    spaced, plain = ChatText(context="p ", reference="r"), ChatText(context="p", reference="r")
    keys = {key_of("scoring", ROW.model_copy(update={"chat": chat})) for chat in (None, plain, spaced)}
    assert len(keys) == 3


def test_a_config_without_newer_settings_has_the_digest_that_it_had_before_there_were_any() -> None:
    listed = RunConfig(variants=(VARIANT,), dialogues=DialogueConfig(source="d.jsonl", split="all"))
    assert config_digest(listed) == "f66808ff5943e4ce4cc99abcc892fd167483d58aa7238bfe836413139bea8c95"
    before = "89664398d78a8d7ebad1c6183a46f4786f93567bb9c87398e0d0ed55c0ec0c9e"
    assert config_digest(RunConfig(variants="variants.json")) == before
    assert config_digest(RunConfig(variants="variants.json", chat_template={"enable_thinking": False})) != before
    assert config_digest(RunConfig(variants="variants.json", reasoning=())) == before


def test_a_newer_setting_of_a_part_of_the_config_counts_only_where_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "ADDED", {GenerationConfig: {"top_p"}, Variant: {"dtype"}})
    monkeypatch.setattr(keys, "SHOWN", {})
    monkeypatch.setattr(keys, "FORMER_DEFAULTS", {})
    values = RunConfig(variants=(VARIANT,)).model_dump(mode="json", exclude=keys.DERIVED)
    del values["generation"]["top_p"], values["variants"][0]["dtype"]
    assert config_digest(RunConfig(variants=(VARIANT,))) == digest_value(values)
    values["generation"]["top_p"] = 0.5
    assert config_digest(RunConfig(variants=(VARIANT,), generation=GenerationConfig(top_p=0.5))) == digest_value(values)


def test_a_default_that_became_null_has_the_digest_and_keys_of_what_it_was() -> None:
    twice = RunConfig(variants=(VARIANT,), memory=MemoryConfig(repeats=2))
    assert config_digest(RunConfig(variants=(VARIANT,))) == config_digest(twice)
    assert key_of("memory") == key_of("memory", memory=MemoryConfig(repeats=2))
    assert key_of("memory") != key_of("memory", memory=MemoryConfig(repeats=3))


def test_a_timed_request_is_the_same_under_any_budget() -> None:
    assert key_of("latency", latency=LatencyConfig(budget_minutes=None)) == key_of("latency")
    assert key_of("latency", latency=LatencyConfig(precision=0.1)) == key_of("latency")


def test_metrics_and_statistics_do_not_make_it_another_config() -> None:
    one = RunConfig(variants=(VARIANT,))
    other = RunConfig(variants=(VARIANT,), metrics=("rouge",), stats=StatsConfig(resamples=500))
    assert config_digest(one) == config_digest(other)
    assert config_digest(one) != config_digest(RunConfig(variants=(VARIANT,), limit=3))


def test_a_price_makes_neither_another_config_nor_another_measurement() -> None:
    priced: dict[str, Any] = {"price_per_gpu_hour": 2.5, "currency": "EUR"}
    assert config_digest(RunConfig(variants=(VARIANT,), **priced)) == config_digest(RunConfig(variants=(VARIANT,)))
    assert key_of("latency", **priced) == key_of("latency")


@pytest.mark.parametrize("change", [{"quantization": "nf4"}, {"dtype": "float32"}])
@pytest.mark.parametrize("named", [True, False])
def test_fidelity_depends_on_how_the_other_variant_is_held(change: dict[str, Any], named: bool) -> None:
    other = Variant(name="other", kind="base", model="o")
    pairs = (FidelityPair(variant="base", against="other"),) if named else None

    def key(against: Variant) -> str:
        config = RunConfig(variants=(VARIANT, against), fidelity=pairs)
        keys = record_key(config, (VARIANT, against), {"base": "w", "other": "v"}, "t", "here", "cpu")
        return keys("fidelity", VARIANT, ROW)

    assert key(other) != key(other.model_copy(update=change))
