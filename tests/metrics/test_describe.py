"""The docs say of every metric what the code declares."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.metrics.loading import all_specs
from tests.metrics.describe import row

DOCS = (Path(__file__).resolve().parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", all_specs())
def test_the_docs_hold_a_metric_s_row(name: str) -> None:
    assert row(all_specs()[name]) in DOCS, "regenerate it: python -m tests.metrics.describe"


def test_every_medical_rule_has_a_section() -> None:
    heads = " ".join(line for line in DOCS.splitlines() if line.startswith("###"))
    for name, spec in all_specs().items():
        if spec.family == "safety":
            assert name.split(".")[1] in heads


def test_the_docs_state_how_often_each_rule_is_right() -> None:
    for name, spec in all_specs().items():
        found = spec.accuracy
        if found:
            short = name.split(".")[1] + (" (screen)" if spec.screen else "")
            line = next(line for line in DOCS.splitlines() if line.startswith(f"| {short} | {found.pairs} |"))
            assert line.endswith(f"| {found.precision:.2f}, {found.recall:.2f} |")
