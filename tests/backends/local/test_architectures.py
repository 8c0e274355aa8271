"""The benchmark that compares architectures with plain transformers: when a row fails, and how a row is made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import architectures
from benchmarks.architectures import main, passed, table

GOOD: dict[str, Any] = {
    "architecture": "Llama", "variant": "base", "dtype": "float32", "path": "slots, masks", "reasons": [],
    "dialogues": 12, "nll_off": 2e-7, "plain_off": 1e-7, "replies_equal": 12,
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "holds"),
    [
        ({}, True),
        ({"nll_off": 2e-6}, False),
        ({"nll_off": 2e-6, "plain_off": 3e-6}, True),  # transformers itself is no closer
        ({"nll_off": float("nan")}, False),
        ({"replies_equal": 11}, False),
        ({"replies_equal": 3, "nll_off": 1e-3, "dtype": "bfloat16"}, True),
        ({"error": "RuntimeError: no", "dtype": "bfloat16"}, False),
    ],
)
def test_fp32_must_agree_and_nothing_may_fail(change: dict[str, Any], holds: bool) -> None:
    assert passed({**GOOD, **change}) is holds


def test_an_architectures_variants_share_a_line_and_reasons_are_listed_once_below() -> None:
    rows = [{**GOOD, "reasons": ["no graphs here"]}, {**GOOD, "variant": "merged", "reasons": ["no graphs here"]}]
    rows[1] |= {"nll_off": 5e-7, "replies_equal": 11}
    shown = table(rows)
    assert "| Llama | float32 | 5.0e-07 | 1.0e-07 | 23 of 24 | slots, masks |" in shown
    assert shown.count("no graphs here") == 1


def test_a_run_compares_every_variant_and_fails_where_replies_differ(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["--device", "cpu", "--only", "Mistral", "--dtypes", "float32", "--dialogues", "4"]
    out = tmp_path / "out.json"
    assert main([*command, "--out", str(out)]) == 0
    rows = json.loads(out.read_text())["rows"]
    assert [(row["variant"], row["replies_equal"]) for row in rows] == [("base", 4), ("adapter", 4), ("merged", 4)]
    real = architectures.plainly

    def other(*given: Any) -> Any:
        nll, replies, off = real(*given)
        return nll, [(5,), *replies[1:]], off

    monkeypatch.setattr(architectures, "plainly", other)
    assert main([*command, "--out", str(out)]) == 1
