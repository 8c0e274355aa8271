"""A run's config: what it accepts, and what it says of what it no longer does."""

from __future__ import annotations

from typing import Any

import pytest

from harness.config import RunConfig
from harness.dialogues.model import DialogueConfig
from harness.errors import InputError
from harness.sets import set_configs
from harness.yamlfile import validate


@pytest.mark.parametrize("way", ["auto", "graph"])
def test_the_ways_of_the_compiled_engine_are_still_accepted(way: str) -> None:
    config = validate(RunConfig, {"variants": "variants.json", "latency": {"compile": way}}, source="run.yaml")
    assert config.latency.compile == way


def test_inductor_is_refused_with_what_is_used_instead() -> None:
    value = {"variants": "variants.json", "latency": {"compile": "inductor"}}
    with pytest.raises(InputError) as caught:
        validate(RunConfig, value, source="run.yaml")
    said = "run.yaml: latency.compile: inductor was removed; use graph, not 'inductor'."
    assert str(caught.value) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"sets": {}}, "sets: name at least one set, or leave 'sets' out."),
        ({"sets": {"a": {}}, "dialogues": {"source": "x"}}, "give either 'dialogues' or 'sets';"),
        ({"sets": {"..": {}}}, "a set's name has up to 64 letters, digits, '-' and '_', unlike '..'."),
        ({"sets": {"a/b": {}}}, "unlike 'a/b'."),
        ({"sets": {"A": {}, "a": {}}}, "'A' and 'a' differ in case alone"),
        ({"sets": {"a": {"split": "all"}}}, "sets.a: 'source' is missing"),
        ({"sets": {"a": {"sorce": "x"}}}, "unknown key 'sets.a.sorce'. Did you mean 'source'?"),
        ({"sets": {"a": {"passes": ["scorin"]}}}, "sets.a.passes: unknown pass 'scorin'"),
    ],
)
def test_sets_that_mean_nothing_are_refused(value: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        validate(RunConfig, {"variants": "variants.json", **value}, source="run.yaml")
    assert said in str(caught.value)


def test_a_set_that_states_nothing_is_the_training_data_s_held_out_part() -> None:
    value = {"variants": "variants.json", "sets": {"home": None, "other": {"source": "x.json", "too_long": "cut-left"}}}
    config = validate(RunConfig, value, source="run.yaml")
    home, other = set_configs(config).values()
    assert home.dialogues is None
    assert other.dialogues == DialogueConfig(source="x.json", too_long="cut-left")
    assert validate(RunConfig, config.model_dump(mode="json", by_alias=True), source="run.yaml") == config
