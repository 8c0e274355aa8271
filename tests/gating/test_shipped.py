"""What the package carries: thresholds that name what exists, and the JSON Schema for editors."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from harness.errors import InputError
from harness.gating.gate import gate
from harness.gating.policy import SHIPPED, load_policy
from harness.metrics.loading import all_specs
from harness.metrics.registry import MetricOptions
from tests.gating import schema_file
from tests.run_folders import make_run, random_values

FAMILIES = {"quality", "safety", "fidelity", "latency", "memory"}


def test_the_shipped_json_schema_is_current() -> None:
    told = "out of date: run python -m tests.gating.schema_file"
    assert schema_file.PATH.read_text(encoding="utf-8") == schema_file.text(), told


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.yaml")), ids=lambda path: path.stem)
def test_shipped_thresholds_name_metrics_that_exist_and_cover_every_family(path: Path) -> None:
    loaded = load_policy(path.stem)
    quickstart = path.stem == "quickstart"  # measures two rates of its own, and memory in one process a variant
    specs = all_specs(MetricOptions(modules=("harness.configs.quickstart_metrics",) if quickstart else ()))
    assert [check.metric for check in loaded.checks if check.metric not in specs] == []
    assert {specs[check.metric].family for check in loaded.checks} == FAMILIES - ({"memory"} if quickstart else set())
    jsonschema.validate(yaml.safe_load(path.read_text(encoding="utf-8")), json.loads(schema_file.text()))


def test_the_json_schema_refuses_what_the_gate_refuses() -> None:
    schema = json.loads(schema_file.text())
    validator = jsonschema.Draft202012Validator(schema)
    good = {"version": 1, "checks": [{"id": "a", "metric": "m", "min": 1}]}
    assert validator.is_valid(good)
    for bad in (
        {"version": 2},
        {"version": 1, "check": []},
        {"version": 1, "checks": [{"id": "a", "metric": "m"}]},
        {"version": 1, "checks": [{"id": "a", "metric": "m", "min": 1, "max": 2}]},
        {"version": 1, "checks": [{"id": "a", "metric": "m", "min": "1"}]},
    ):
        assert not validator.is_valid(bad), bad


def test_without_a_merged_variant_the_checks_to_remove_are_named(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(12, variants=("base", "adapter")))
    with pytest.raises(InputError, match=r"no variant 'merged'.*copy the file and remove the checks") as told:
        gate(run.root, "adapter-release", write=False)
    named = [check.id for check in load_policy("adapter-release").checks if check.candidate == "merged"]
    assert str(told.value).endswith(f"{', '.join(named)}.")
