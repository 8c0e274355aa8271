"""What the latency pass reached within its time budget, in words: for the terminal and for the page.

``facts`` is ``precision`` of ``latency.json``, also ``provenance.latency_precision`` of ``run.json``:

- ``asked``: the half-width of the 95 % interval of the log ratio of two variants that every comparison should have;
- ``budget_seconds`` and ``spent_seconds``: requests and warm-up;
- ``questions``: one a condition, with ``engine``, ``batch``, ``workload`` and ``prompt_tokens``; ``timed``, how many
  requests (or batches) of a variant; ``needed``, how many the pilot asked for (null without a pair of variants); and
  ``reached``, the half-width by pair ("merged/adapter"), null where there is no interval.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Facts = Mapping[str, Any]


def sentences(facts: Facts) -> list[str]:
    """Return what was reached at batch 1, what is less precise than asked for, and what was not timed."""
    asked, budget = percent(facts["asked"]), f"{facts['budget_seconds'] / 60:g} minutes"
    timed = [one for one in facts["questions"] if one["timed"]]
    found = [f"{_where(one)}: {reached(facts, one)}." for one in timed[:1] if one["reached"]]
    short = [f"{_where(one)} ({_widest(one)})" for one in timed[1:] if _is_short(one, facts["asked"])]
    if short:
        found.append(f"Within {budget}, less precise than {asked}: {', '.join(short)}.")
    untimed = [_where(one) for one in facts["questions"] if not one["timed"]]
    if untimed:
        found.append(f"Not timed within {budget}: {', '.join(untimed)}. Raise latency.budget_minutes for these.")
    return found


def reached(facts: Facts, question: Mapping[str, Any]) -> str:
    """Return the widest interval of a question beside what was asked for, and those of its pairs."""
    widths = question["reached"]
    pairs = ", ".join(f"{pair} {_shown(width)}" for pair, width in widths.items())
    several = "windows" if question["engine"] == "server" else "batches"
    count = f"{question['timed']} {'requests' if question['batch'] == 1 else several}"
    return f"{_widest(question)} reached, {percent(facts['asked'])} asked for ({pairs}; {count})"


def of_condition(facts: object, engine: str, batch: int) -> str:
    """Return what was reached for fixed replies under these conditions, as a sentence; empty if nothing is known."""
    if not isinstance(facts, Mapping):
        return ""
    for one in facts["questions"]:
        fixed = one["workload"] not in ("natural", "prefill")
        if fixed and (one["engine"], one["batch"]) == (engine, batch) and one["reached"] and one["timed"]:
            where = f"with {batch} at once" if engine == "server" else f"at batch {batch}"
            return f" Ratios of variants {where}: {reached(facts, one)}."
    return ""


def is_short(facts: Facts) -> bool:
    """Return whether anything is less precise than asked for, or was not timed."""
    return any(not one["timed"] or _is_short(one, facts["asked"]) for one in facts["questions"])


def percent(half_width: float) -> str:
    """Return a half-width as ``±2 %``."""
    return f"±{half_width * 100:.2g} %" if half_width < 1 else f"±{half_width * 100:.0f} %"


def _where(question: Mapping[str, Any]) -> str:
    what = {
        "natural": "natural replies",
        "prefill": f"prompts of {question['prompt_tokens']} tokens",
    }.get(question["workload"], f"batch {question['batch']}")
    if question["engine"] == "server":
        return f"{question['batch']} at once at the server"
    return f"{what} on the {question['engine']} engine"


def _is_short(question: Mapping[str, Any], asked: float) -> bool:
    return any(width is None or width > asked for width in question["reached"].values())


def _widest(question: Mapping[str, Any]) -> str:
    widths = list(question["reached"].values())
    return _shown(None if None in widths else max(widths))


def _shown(width: float | None) -> str:
    return "no interval" if width is None else percent(width)
