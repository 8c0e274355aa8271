"""Load tests that other tools made of a server, as they state them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from reports.numbers import plain
from reports.view import RunView

HEADERS = (
    "Tool and file", "Model", "Load", "Requests", "TTFT p50 / p99, ms", "Between tokens p50 / p99, ms",
    "End to end p50 / p99, ms", "Tokens/s",
)  # fmt: skip


def load_test_rows(view: RunView) -> tuple[tuple[str, ...], ...]:
    """Return one row a load; nothing if the run's config imports none."""
    tests = view.manifest.provenance.get("load_tests")
    return tuple(_row(one) for one in tests if isinstance(one, Mapping)) if isinstance(tests, list) else ()


def _row(test: Mapping[str, Any]) -> tuple[str, ...]:
    failed = test.get("failed")
    return (
        f"{test.get('tool')}: {test.get('file')}",
        str(test.get("model") or "not stated"),
        str(test.get("load")),
        _shown(test.get("completed")) + (f", {failed} failed" if failed else ""),
        *(f"{_shown(test.get(f'{name}_p50'))} / {_shown(test.get(f'{name}_p99'))}" for name in ("ttft", "itl", "e2e")),
        _shown(test.get("tokens_per_s")),
    )


def _shown(value: object) -> str:
    return plain(float(value)) if isinstance(value, int | float) else "–"
