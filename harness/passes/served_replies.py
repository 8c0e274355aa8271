"""Whether a served variant replies as the local one whose weights it claims to serve (``same_as``).

Both have replied to the same prompts. Where two replies part, the local model is asked how much less probable than its
own choice it finds the server's: a near-tie may fall either way in other kernels or another precision, and a token that
the model is sure of may not.
"""

from __future__ import annotations

import math
from contextlib import closing

from harness.backends.base import Capability, ChoiceRequest, Margin
from harness.dialogues.tokens import Tokenizer
from harness.passes.base import PassContext, Recording, what_lacks
from harness.passes.plans import EncodedOnce, encode_dialogue_prompt, plan_prompts, tokenizer_of
from harness.store.schema import FidelityRecord, GenerationRecord
from harness.variants.model import Variant

TASK = FidelityRecord.measured_by


def why_not(context: PassContext, variant: Variant) -> str | None:
    """Return why a variant without distributions is not compared by its replies either; None if it is."""
    if variant.same_as is None:
        return what_lacks(context.backends.of(variant), {Capability.DIVERGENCE})
    local = next((one for one in context.variants if one.name == variant.same_as), None)
    if local is None:
        return f"'{variant.same_as}' cannot be compared"
    if "generation" not in context.config.passes:
        return "its replies were not asked for: add generation to the passes"
    if context.config.generation.temperature > 0:
        return "replies are sampled, so that equal models reply differently"
    return what_lacks(context.backends.of(local), {Capability.MARGINS})


def compare(context: PassContext, variant: Variant, local: Variant) -> None:
    """Write one record a dialogue: whether the replies are identical, and else where they part; existing ones stay."""
    backend = context.backends.of(local)
    recording = Recording(
        context,
        FidelityRecord,
        variant,
        context.dialogues,
        task=f"{TASK} {variant.name} against {local.name}",
        counts=lambda record: record.against == local.name,
    )
    with recording:
        if not recording.keys:
            return
        prompts = plan_prompts(context, backend, EncodedOnce(encode_dialogue_prompt), recording.keys).requests
        asked = {prompt.id: prompt.ids for prompt in prompts}
        served, ours = _replies(context, variant), _replies(context, local)
        parted: dict[str, FidelityRecord] = {}
        requests: list[ChoiceRequest] = []
        for name, key in recording.keys.items():
            record = FidelityRecord(id=name, key=key, against=local.name)
            if name not in served or name not in ours or name not in asked:
                recording.write(record.model_copy(update={"skipped": "not both replied"}))
            elif served[name].reply == ours[name].reply:
                recording.write(record.model_copy(update={"identical": True}))
            else:
                at = first_difference(served[name].tokens, ours[name].tokens)
                parted[name] = record.model_copy(update={"identical": False, "parts_at": at})
                if _choice_is_known(served[name], ours[name], at, tokenizer_of(backend)):
                    chosen = next(iter(served[name].tokens[at:]), None)
                    requests.append(ChoiceRequest(name, (*asked[name], *ours[name].tokens[:at]), chosen))
        with closing(backend.margins(requests)) as found:
            for one in found:
                recording.write(_with_margin(parted.pop(one.id), one), tokens=1)
        recording.write(*parted.values())


def first_difference(one: tuple[int, ...], other: tuple[int, ...]) -> int:
    """Return how many tokens both begin with."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))


def _choice_is_known(served: GenerationRecord, ours: GenerationRecord, at: int, tokenizer: Tokenizer) -> bool:
    """Return whether it is known which token the server chose where the replies part.

    It is not where a stop string cut that off. Nor is it where the server sent text alone and the replies part in their
    tokens before they do in their texts: encoding the local text again gives the same other tokens.
    """
    if at == len(served.tokens):
        return served.finish == "eos"
    encoded = tokenizer(str(ours.reply), add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
    return tuple(encoded[: at + 1]) != served.tokens[: at + 1]


def _with_margin(record: FidelityRecord, found: Margin) -> FidelityRecord:
    if found.error is not None or not (math.isfinite(found.margin) and math.isfinite(found.behind)):
        return record
    return record.model_copy(update={"margin": found.margin, "behind": found.behind})


def _replies(context: PassContext, variant: Variant) -> dict[str, GenerationRecord]:
    found = context.folder.records(GenerationRecord, GenerationRecord.measured_by, variant.name)
    return {one.id: one for one in found if one.reply is not None and one.error is None}
