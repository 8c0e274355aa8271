"""A pass that counts the letters of replies: all that adding a pass takes, but for a number in ``results``."""

from __future__ import annotations

from contextlib import closing

from harness.backends.base import Capability, DecodingSettings
from harness.passes.base import Conditions, Pass, PassContext, Recording
from harness.passes.plans import EncodedOnce, encode_dialogue_prompt, plan_prompts
from harness.store.schema import Record


class ToyRecord(Record):
    """How many letters a reply has, and its first word."""

    measured_by = "toy"
    texts = ("word",)

    letters: int | None = None
    word: str | None = None


def run(context: PassContext) -> None:
    """Count the letters of every variant's replies."""
    for variant in context.variants:
        backend = context.backends.of(variant)
        with Recording(context, ToyRecord, variant, context.dialogues) as recording:
            plan = plan_prompts(context, backend, EncodedOnce(encode_dialogue_prompt), recording.keys)
            with closing(backend.generate(plan.requests, DecodingSettings(8))) as replies:
                for reply in replies:
                    text, key = reply.text, recording.keys[reply.id]
                    letters, word = sum(map(str.isalpha, text)), text.partition(" ")[0]
                    recording.write(ToyRecord(id=reply.id, key=key, letters=letters, word=word))


def settings(on: Conditions) -> dict[str, int]:
    """Return what its records depend on."""
    return {"longest": 8}


PASS = Pass(ToyRecord, needs=frozenset({Capability.TOKENS, Capability.GENERATE}), settings=settings, run=run)
