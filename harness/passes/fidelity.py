"""The fidelity pass: how far one variant is from another, token by token, on the doctor's own replies.

Both models read the same prompt and reference; at every reference position their distributions over the next token are
compared. By default the merged model is held against the adapter it came from, and a quantised base against the base.
A pair's two models are loaded at once, and the logits of one chunk of one batch are all that is ever held.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from harness.backends.local.device import NO_MEMORY
from harness.backends.local.divergence import Comparison, Divergence
from harness.backends.local.merge_errors import weight_errors
from harness.backends.local.pool import DoesNotFitError, LoadedModel
from harness.backends.local.scoring import ScoringRequest
from harness.files import write_json
from harness.passes.base import PassContext
from harness.passes.plans import EncodedOnce, encode_reference, in_batches, plan_references
from harness.store.folder import RecordWriter
from harness.store.schema import DialogueRow, FidelityRecord
from harness.variants.model import Variant
from harness.variants.relations import pairs

NAME = "fidelity"
WEIGHTS_FILE = "fidelity_weights.json"


def run(context: PassContext) -> None:
    """Compare every pair on every dialogue with a reference; records on disk are not made again."""
    scored = [dialogue for dialogue in context.dialogues if dialogue.reference is not None]
    encode = EncodedOnce(encode_reference)
    named = {variant.name: variant for variant in context.variants}
    for pair in pairs(context.variants, context.config.fidelity):
        _compare(context, named[pair.variant], named[pair.against], scored, encode)
    write_weight_errors(context)


def write_weight_errors(context: PassContext) -> None:
    """Write ``fidelity_weights.json``, how well each merge kept the weights, where the run has merged variants."""
    found = weight_errors(context.variants, context.pool)
    if found:
        write_json(context.folder.root / WEIGHTS_FILE, {"schema": 1, "variants": found})


def _compare(
    context: PassContext, variant: Variant, against: Variant, scored: Sequence[DialogueRow], encode: EncodedOnce
) -> None:
    task = f"{NAME} {variant.name} against {against.name}"
    context.progress.start(task, len(scored))
    keys = _unfinished(context, variant, against, scored)
    context.progress.advance(task, len(scored) - len(keys))
    if keys:
        with RecordWriter(context.folder.records_path(NAME, variant.name)) as out:
            try:
                for new, tokens in _records(context, variant, against, scored, encode, keys):
                    out.append(new)
                    context.progress.advance(task, len(new), tokens)
            except DoesNotFitError as error:
                context.event("does-not-fit", {"pass": NAME, "variant": variant.name, "detail": str(error)})
                why = f"not loaded together with '{against.name}': memory is too small"
                out.append(FidelityRecord(id=i, key=key, against=against.name, error=why) for i, key in keys.items())
            except _OtherTokensError as error:  # allowed as a mismatch of bases: the other passes' work is kept
                context.event("not-comparable", {"pass": NAME, "variant": variant.name, "detail": str(error)})
                why = f"'{against.name}' has other tokens"
                out.append(FidelityRecord(id=i, key=key, against=against.name, error=why) for i, key in keys.items())
    context.progress.finish(task)


def _records(
    context: PassContext,
    variant: Variant,
    against: Variant,
    scored: Sequence[DialogueRow],
    encode: EncodedOnce,
    keys: dict[str, str],
) -> Iterator[tuple[list[FidelityRecord], int]]:
    """Yield new records with the number of tokens that were read for them."""
    # Entering both keeps both loaded; each is entered again for its half of a batch, which switches adapters.
    with context.pool.use(against) as theirs, context.pool.use(variant) as ours:
        _refuse_other_tokens(ours, theirs)
        plan = plan_references(context, ours, scored, encode)
        refused = [
            FidelityRecord(id=i, key=keys[i], against=against.name, **why)
            for i, why in plan.refusals.items()
            if i in keys
        ]
        yield refused, 0
        comparison = Comparison(context.pool, variant, against)
        for batch, found in in_batches(
            context, ours, plan.requests, set(keys), comparison.measure, pass_name=NAME, models=2
        ):
            results: Sequence[Divergence | None] = found or [None] * len(batch)
            new = [
                _record(request, divergence, keys[request.id], against.name)
                for request, divergence in zip(batch, results, strict=True)
                if request.id in keys
            ]
            yield new, 2 * sum(len(request) for request in batch)


def _unfinished(
    context: PassContext, variant: Variant, against: Variant, scored: Sequence[DialogueRow]
) -> dict[str, str]:
    """Return the key of every dialogue (by id, in order) that this pair has no record of yet.

    The key is the variant's own, which a continued run keeps records by; it digests what is held against as well.
    """
    records = context.folder.records(FidelityRecord, NAME, variant.name)
    done = {(record.id, record.key) for record in records if record.against == against.name}
    keyed = ((dialogue.id, context.key(NAME, variant, dialogue)) for dialogue in scored)
    return {name: key for name, key in keyed if (name, key) not in done}


class _OtherTokensError(Exception):
    """Two variants whose distributions are over different tokens."""


def _refuse_other_tokens(ours: LoadedModel, theirs: LoadedModel) -> None:
    pair = f"'{ours.variant.name}' and '{theirs.variant.name}'"
    if ours.tokenizer is not theirs.tokenizer and ours.tokenizer.get_vocab() != theirs.tokenizer.get_vocab():
        raise _OtherTokensError(f"{pair} have different tokenizers, so their distributions cannot be compared.")
    sizes = [loaded.model.config.get_text_config().vocab_size for loaded in (ours, theirs)]
    if sizes[0] != sizes[1]:
        raise _OtherTokensError(f"{pair} tell apart {sizes[0]} and {sizes[1]} tokens, so they cannot be compared.")


def _record(request: ScoringRequest, found: Divergence | None, key: str, against: str) -> FidelityRecord:
    if found is None:
        return FidelityRecord(id=request.id, key=key, against=against, error=NO_MEMORY)
    numbers = (*found.kl, found.max_abs_dlogp, found.nll, found.nll_against)
    if not all(math.isfinite(number) for number in numbers):
        return FidelityRecord(id=request.id, key=key, against=against, error="the log-likelihoods are not finite")
    return FidelityRecord(
        id=request.id,
        key=key,
        against=against,
        kl=found.kl,
        agree=found.agree,
        max_abs_dlogp=found.max_abs_dlogp,
        nll=found.nll,
        nll_against=found.nll_against,
        reference_tokens=len(found.kl),
    )
