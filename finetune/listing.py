"""What was made, as ``variants.json`` lists it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.folders import CURVES
from finetune.recipe import SYNTHETIC, TINY
from harness.dialogues.leakage import FILE_NAME
from harness.variants.merge_report import MergeReport
from harness.variants.model import SplitFacts, Variant, VariantsFile

if TYPE_CHECKING:
    from finetune.pipeline import Prepared

MERGED = "merged"


def variants_file(trained: Sequence[tuple[Prepared, dict[str, Any]]], report: MergeReport) -> VariantsFile:
    """Return the list of base, adapters and the first adapter merged.

    ``trained`` are the trainings of one recipe with the facts recorded beside each adapter; ``report`` is the merge's.
    """
    prepared, facts = trained[0]
    recipe = prepared.recipe
    settings = recipe.dialogues
    mapped = settings.columns.model_dump(exclude_unset=True)
    over_base = {"dtype": recipe.dtype, "base_digest": prepared.base_digest}
    model = _reference(recipe.base, prepared.base, prepared.out)
    template = {"template": prepared.template.name, "template_digest": prepared.template_digest}
    base = Variant(name="base", kind="base", model=model, model_digest=prepared.base_digest, **over_base)
    held = {"quantization": recipe.quantization}
    variants = [base]
    if recipe.quantization != "none":
        variants.append(base.model_copy(update={"name": f"base-{recipe.quantization}", **held}))
    for each, recorded in trained:
        drawn = {"recipe_digest": each.recipe_digest, "seed": each.recipe.seed} if len(trained) > 1 else {}
        known = {"adapter_digest": recorded["adapter_digest"], **over_base, **template, **drawn}
        variants.append(Variant(name=each.name, kind="adapter", model=model, adapter=each.name, **held, **known))
    variants.append(
        Variant(
            name=MERGED,
            kind="merged",
            model=MERGED,
            quantization="nf4" if report.strategy == "in-place-4bit" else "none",
            model_digest=report.model_digest,
            merge_strategy=report.strategy,
            adapter_digest=report.adapter_digest,
            **over_base,
            **template,
        )
    )
    return VariantsFile(
        schema=1,
        variants=tuple(variants),
        split=SplitFacts(
            source=_reference(settings.source, Path(prepared.source), prepared.out),
            source_digest=prepared.loaded.digest,
            salt=settings.salt,
            columns=settings.columns.model_dump(exclude_none=True),
            mapped={role: column for role, column in mapped.items() if column is not None},
            switched_off=tuple(role for role, column in mapped.items() if column is None),
            hub_split=settings.hub_split,
            hub_config=settings.hub_config,
            encoding=settings.encoding,
            on_invalid=settings.on_invalid,
        ),
        recipe=recipe.model_dump(mode="json", exclude_none=True),
        training=facts["training"],
        fingerprints=f"{prepared.name}/{FILE_NAME}",
        curves=f"{prepared.name}/{CURVES}",
        versions=facts.get("versions", {}),
        **template,
    )


def _reference(named: str, path: Path, out: Path) -> str:
    """Return a local path relative to the folder of ``variants.json``, or a Hub ID unchanged."""
    if named in (TINY, SYNTHETIC) or Path(named).expanduser().exists():
        return Path(os.path.relpath(path.expanduser().resolve(), out.resolve())).as_posix()
    return named
