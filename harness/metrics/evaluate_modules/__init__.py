"""ROUGE, BLEU and chrF++ as ``evaluate`` metrics that need no network, also for ``evaluate.combine``.

::

    from harness.metrics.evaluate_modules import load
    import evaluate

    metrics = evaluate.combine([load("rouge"), load("bleu"), load("chrf")])
    metrics.compute(predictions=["Rest."], references=["Rest and drink water."])
"""

from __future__ import annotations

from typing import Any

from harness.errors import InputError, did_you_mean

NAMES = ("rouge", "bleu", "chrf")


def load(name: str, **options: object) -> Any:
    """Return the ``evaluate.Metric`` of that name; ``rouge`` takes ``stemmer=True``. Raises InputError for others."""
    if name not in NAMES:
        raise InputError(f"There is no evaluate module '{name}'.{did_you_mean(name, NAMES)} Known: {', '.join(NAMES)}.")
    from harness.metrics.evaluate_modules.text_overlap import BleuModule, ChrfModule, RougeModule

    return {"rouge": RougeModule, "bleu": BleuModule, "chrf": ChrfModule}[name](**options)
