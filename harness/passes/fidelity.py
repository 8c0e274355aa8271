"""The fidelity pass: how much one variant differs from another, token by token, on the doctor's own replies.

Both models read the same prompt and reference, and their next-token distributions are compared at every reference
position. By default a merged model is compared with its adapter, and a quantised base with the base. Of a served
variant that states whose weights it serves (``same_as``), the replies are compared instead; see ``served_replies``.
"""

from __future__ import annotations

import math
from contextlib import closing
from typing import Any

from harness.backends.base import Capability, Divergence, DoesNotFitError, NotComparableError
from harness.files import write_json
from harness.passes import generation, served_replies
from harness.passes.base import Conditions, Pass, PassContext, Recording
from harness.passes.plans import EncodedOnce, encode_reference, plan_references, with_references
from harness.progress import EventKind
from harness.store.schema import FidelityRecord, GenerationRecord
from harness.time_left import Work
from harness.variants.model import Variant
from harness.variants.relations import FidelityPair, pairs, unpaired

WEIGHTS_FILE = "fidelity_weights.json"


def run(context: PassContext) -> None:
    """Compare every pair on every dialogue with a reference; existing records are kept."""
    encode = EncodedOnce(encode_reference)
    named = {variant.name: variant for variant in context.variants}
    for pair in pairs(_with_distributions(context), _able(context)):
        _compare(context, named[pair.variant], named[pair.against], encode)
    if context.processes == 1:  # of several, the last one does what needs all replies
        for variant in context.variants:
            if variant.same_as is not None and served_replies.why_not(context, variant) is None:
                served_replies.compare(context, variant, named[variant.same_as])
        write_weight_errors(context)


def settings(on: Conditions) -> list[list[Any]]:
    """Return what the pass depends on beyond its own variant: the variants compared with and how they are loaded.

    Replies of served variants are compared too, so their settings belong to it where there are such variants.
    """
    held = {variant.name: [on.weights[variant.name], variant.quantization, variant.dtype] for variant in on.variants}
    claims = [(variant.name, variant.same_as) for variant in on.variants if variant.same_as is not None]
    replies = [[generation.settings(on), *([*claim, *held.get(claim[1], ())] for claim in claims)]] if claims else []
    if on.config.fidelity:
        named = [[pair.variant, pair.against, *held.get(pair.against, ())] for pair in on.config.fidelity]
        return [*named, *replies]
    return [*([name, *loaded] for name, loaded in held.items()), *replies]


def leaves_out(context: PassContext) -> dict[str, str]:
    """Return why variants that could be compared are not: their counterpart is unknown or cannot be measured."""
    able, comparable = _able(context), _with_distributions(context)
    named = {variant.name for variant in comparable}
    dropped = [pair for pair in context.config.fidelity or () if pair not in (able or ()) and pair.variant in named]
    found = unpaired(comparable, able) | {one.variant: f"'{one.against}' cannot be compared" for one in dropped}
    others = ((one.name, served_replies.why_not(context, one)) for one in context.variants if one.name not in named)
    return found | {name: why for name, why in others if why is not None}


PASS = Pass(
    FidelityRecord,
    needs=frozenset({Capability.TOKENS}),
    settings=settings,
    run=run,
    after=(GenerationRecord.measured_by,),
    needs_references=True,
    shared=True,
    leaves_out=leaves_out,
    reads=lambda variants, config: {pair.variant: 2 for pair in pairs(variants, config.fidelity)},
)


def write_weight_errors(context: PassContext) -> None:
    """Write ``fidelity_weights.json`` (how well each merge kept the weights) if the run has merged variants."""
    merged = ((variant, context.backends.of(variant)) for variant in context.variants if variant.kind == "merged")
    found = {
        variant.name: backend.weight_errors(context.variants)
        for variant, backend in merged
        if Capability.WEIGHTS in backend.capabilities
    }
    if found:
        write_json(context.folder.root / WEIGHTS_FILE, {"schema": 1, "variants": found})


def _able(context: PassContext) -> tuple[FidelityPair, ...] | None:
    """Return the pairs that the config names and whose variants can both be measured; None if it names none."""
    if context.config.fidelity is None:
        return None
    named = {variant.name for variant in _with_distributions(context)}
    return tuple(pair for pair in context.config.fidelity if {pair.variant, pair.against} <= named)


def _with_distributions(context: PassContext) -> tuple[Variant, ...]:
    """Return the variants whose distributions over tokens can be compared."""
    return tuple(one for one in context.variants if Capability.DIVERGENCE in context.backends.of(one).capabilities)


def _compare(context: PassContext, variant: Variant, against: Variant, encode: EncodedOnce) -> None:
    scored = with_references(context)
    backend = context.backends.of(variant)
    recording = Recording(
        context,
        FidelityRecord,
        variant,
        scored,
        task=f"{PASS.name} {variant.name} against {against.name}",
        counts=lambda record: record.against == against.name,
    )
    with recording:
        if not recording.keys:
            return
        left = dict(recording.keys)
        plan = plan_references(context, backend, scored, encode, left)
        recording.write(*plan.refused(FidelityRecord, left, against=against.name))
        for name in plan.refusals:
            left.pop(name, None)
        tokens = {request.id: 2 * len(request) for request in plan.requests}
        context.time_left.begin(PASS.name, variant.name, Work(len(left), sum(tokens[name] for name in left)))
        why = None
        try:
            with closing(backend.divergence(against, plan.requests)) as found:
                for one in found:
                    context.time_left.done(read=tokens[one.id])
                    recording.write(_record(one, left.pop(one.id), against.name), tokens=tokens[one.id])
        except DoesNotFitError as error:
            context.event(EventKind.DOES_NOT_FIT, _detail(variant, error))
            why = f"could not be loaded together with '{against.name}': not enough memory"
        except NotComparableError as error:  # possible with an allowed base mismatch; the other passes are unaffected
            context.event(EventKind.NOT_COMPARABLE, _detail(variant, error))
            why = f"'{against.name}' has a different vocabulary"
        if why is not None:
            recording.write(
                *(FidelityRecord(id=i, key=key, against=against.name, error=why) for i, key in left.items())
            )


def _detail(variant: Variant, error: Exception) -> dict[str, str]:
    return {"pass": FidelityRecord.measured_by, "variant": variant.name, "detail": str(error)}


def _record(found: Divergence, key: str, against: str) -> FidelityRecord:
    error = found.error
    numbers = (*found.kl, found.max_abs_dlogp, found.nll, found.nll_against)
    if error is None and not all(math.isfinite(number) for number in numbers):
        error = "the log-likelihoods are not finite"
    if error is not None:
        return FidelityRecord(id=found.id, key=key, against=against, error=error)
    return FidelityRecord(key=key, against=against, reference_tokens=len(found.kl), **vars(found))
