"""A run's config: what it accepts, and what it says of what it no longer does."""

from __future__ import annotations

import pytest

from harness.config import RunConfig
from harness.errors import InputError
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
