"""The scoring pass: how likely each variant finds the doctor's own reply.

Teacher-forced −log p of the reference given the prompt, tokenised as lm-evaluation-harness does, so that its
``loglikelihood`` gives the same numbers for the same strings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.engine.device import NO_MEMORY
from harness.engine.forward import CausalForward
from harness.engine.fused_layers import FusedLayers
from harness.engine.likelihood import ScoringRequest, negative_log_likelihoods
from harness.passes.base import PassContext
from harness.passes.references import encode_reference, in_batches, plan_references
from harness.passes.requests import EncodedOnce, unfinished
from harness.store import DialogueRow, RecordWriter, ScoringRecord
from harness.variants import Variant

NAME = "scoring"


def run(context: PassContext) -> None:
    """Score every dialogue that has a reference under every variant; records on disk are not made again."""
    scored = [dialogue for dialogue in context.dialogues if dialogue.reference is not None]
    encode = EncodedOnce(encode_reference)
    for variant in context.variants:
        _score_variant(context, variant, scored, encode)


def _score_variant(context: PassContext, variant: Variant, scored: Sequence[DialogueRow], encode: EncodedOnce) -> None:
    task = f"{NAME} {variant.name}"
    keys = unfinished(context, NAME, variant, ScoringRecord, scored)
    context.progress.start(task, len(scored))
    context.progress.advance(task, len(scored) - len(keys))
    if keys:
        with (
            context.pool.use(variant) as loaded,
            FusedLayers(loaded.model, loaded.device).installed(),
            RecordWriter(context.folder.records_path(NAME, variant.name)) as out,
        ):
            plan = plan_references(context, loaded, scored, encode)
            refused = [ScoringRecord(id=i, key=keys[i], **why) for i, why in plan.refusals.items() if i in keys]
            out.append(refused)
            context.progress.advance(task, len(refused))
            forward = CausalForward(loaded.model)
            for batch, nlls in in_batches(
                context,
                loaded,
                plan.requests,
                set(keys),
                lambda batch: negative_log_likelihoods(forward, batch, loaded.device),
                pass_name=NAME,
            ):
                sums: Sequence[float | None] = nlls or [None] * len(batch)
                results = zip(batch, sums, strict=True)
                new = [_record(request, nll, keys[request.id]) for request, nll in results if request.id in keys]
                out.append(new)
                context.progress.advance(task, len(new), sum(len(request) for request in batch))
    context.progress.finish(task)


def _record(request: ScoringRequest, nll: float | None, key: str) -> ScoringRecord:
    counts = {"reference_tokens": len(request.reference), "prompt_tokens": request.context}
    if nll is None:
        return ScoringRecord(id=request.id, key=key, error=NO_MEMORY, **counts)
    if not math.isfinite(nll):
        return ScoringRecord(id=request.id, key=key, error=f"the log-likelihood is {nll}", **counts)
    return ScoringRecord(id=request.id, key=key, nll=nll, **counts)
