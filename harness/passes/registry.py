"""All passes. Each is an object ``PASS`` in ``harness/passes/NAME``, where NAME is the one its record declares.

A new pass therefore needs its own file, its record in ``store/schema.py``, and its numbers in ``results``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from harness.passes.base import Pass
from harness.store.schema import pass_names


def find(name: str) -> Pass:
    """Return the pass of that name, which the config has validated."""
    found: Pass = importlib.import_module(f"harness.passes.{name}").PASS
    return found


def all_passes() -> tuple[Pass, ...]:
    """Return every pass in the order of the schema."""
    return tuple(find(name) for name in pass_names())


def in_order(names: Iterable[str]) -> tuple[Pass, ...]:
    """Return the passes in the order in which they run: as listed, but each behind those in its ``after``."""
    wanted = {name: find(name) for name in names}
    ordered: dict[str, Pass] = {}
    for name, one in wanted.items():
        ordered |= {before: wanted[before] for before in one.after if before in wanted}
        ordered[name] = one
    return tuple(ordered.values())
