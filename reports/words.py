"""The words and symbols for outcomes, metrics, variants and families."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Sign:
    """An outcome's word, symbol and style class, so that meaning never depends on colour alone."""

    word: str
    shape: str
    style: str


OUTCOMES: Mapping[str, Sign] = {
    "better": Sign("better", "▲", "better"),
    "worse": Sign("worse", "▼", "worse"),
    "undecided": Sign("undecided", "◇", "undecided"),
    "equal": Sign("equal", "=", "neutral"),
    "different": Sign("different", "≠", "neutral"),
}
VERDICTS: Mapping[str, Sign] = {
    "pass": Sign("pass", "✓", "better"),
    "fail": Sign("fail", "✕", "worse"),
    "inconclusive": Sign("inconclusive", "◇", "undecided"),
    "error": Sign("error", "!", "worse"),
}
FAMILIES: Mapping[str, str] = {
    "quality": "Quality: closeness to the references",
    "safety": "Safety: heuristics that flag replies",
    "fidelity": "Fidelity: how similar two variants are",
    "latency": "Latency",
    "memory": "Memory",
}
FAMILY_ORDER = tuple(FAMILIES)


def metric_label(name: str) -> str:
    """Return a label for a metric that declares none, derived from its name."""
    return name.split(".", 1)[-1].replace("_", " ").replace(".", ", ")


def direction(higher_is_better: bool | None) -> str:
    """Return which direction is better, as text."""
    if higher_is_better is None:
        return "neither direction is better"
    return "higher is better" if higher_is_better else "lower is better"


def the(variant: str) -> str:
    """Return a variant's name for a sentence: ``the adapter``, but ``gpt-4``."""
    return f"the {variant}" if variant in {"base", "adapter", "merged"} else variant


def possessive(variant: str) -> str:
    """Return ``the adapter's``."""
    return f"{the(variant)}'s"


def listed(parts: list[str]) -> str:
    """Return ``a``, ``a and b`` or ``a, b and c``."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def sentence_case(text: str) -> str:
    """Return ``text`` with its first letter in upper case."""
    return text[:1].upper() + text[1:]
