"""Every pass there is. Each is one object, ``PASS`` of ``harness/passes/NAME``, by the name that its record declares.

So a new pass is its own file, its record in ``store/schema.py``, and its numbers in ``results``.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from harness.passes.base import Pass
from harness.store.schema import pass_names


def find(name: str) -> Pass:
    """Return the pass of a name that the config has accepted."""
    found: Pass = importlib.import_module(f"harness.passes.{name}").PASS
    return found


def all_passes() -> tuple[Pass, ...]:
    """Return every pass, in the order in which they are listed."""
    return tuple(find(name) for name in pass_names())


def in_order(names: Iterable[str]) -> tuple[Pass, ...]:
    """Return the passes in the order in which they run: as listed, but each after those it is to come after."""
    asked = {name: find(name) for name in names}
    ordered: dict[str, Pass] = {}
    for name, one in asked.items():
        ordered |= {before: asked[before] for before in one.after if before in asked}
        ordered[name] = one
    return tuple(ordered.values())
