"""Makes what is measured: a base, a LoRA adapter trained over it in 4 bits, the merged model and ``variants.json``.

>>> import finetune
>>> made = finetune.run("quickstart", "runs/quickstart")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from finetune.recipe import Recipe
    from harness.variants.merge_report import MergeReport
    from harness.variants.model import MergeStrategy, VariantsFile

__all__ = ["merge", "run", "train"]


def run(
    recipe: str | Path | Recipe = "quickstart",
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    seeds: int | None = None,
) -> VariantsFile:
    """Make base, adapter and merged model from a recipe; return the content of ``variants.json`` in ``out``.

    ``seeds`` above 1 trains as many adapters, with the recipe's seed and those that follow; the first is merged.
    """
    from finetune import pipeline

    return pipeline.run(recipe, out, overrides, seeds=seeds)


def train(
    recipe: str | Path | Recipe = "quickstart", out: str | Path | None = None, overrides: Sequence[str] = ()
) -> Path:
    """Make the base and the adapter only; return the adapter's folder."""
    from finetune import pipeline

    return pipeline.train(recipe, out, overrides)


def merge(
    base: str | Path,
    adapter: str | Path,
    out: str | Path,
    strategy: MergeStrategy | None = None,
    *,
    device: str = "auto",
    quantization: str | None = None,
) -> MergeReport:
    """Merge an adapter into its base and save the model as ``out``; return the merge report.

    ``strategy`` None: dequantized after 4-bit training, else original. ``quantization``: what the adapter was trained
    over, "nf4" or "none", if it has no record.
    """
    from finetune.merging import MergeOptions, merge_adapter

    options = MergeOptions(strategy=strategy, device=device, quantization=quantization)
    return merge_adapter(str(base), Path(adapter), Path(out), options)
