"""Scoring on generation's way: where a run asks for both, prompt and reference go through the model once.

A reference rides along where its tokens, tokenised with the prompt, begin with those that generation puts in. The
scoring pass does what is left: prompts cut off or refused, tokens that do not continue the prompt's, and models that
are not decoded in slots.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from harness.backends.base import DecodingSettings, Request
from harness.backends.local.batches import columns_for
from harness.backends.local.joint import JointRequest, JointWork, joint_groups
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import ScoringRequest
from harness.passes.base import PassContext
from harness.passes.plans import EncodedOnce, PromptPlan, ReferencePlan, plan_references, scoring_record, unfinished
from harness.store.folder import RecordWriter
from harness.store.schema import DialogueRow, ScoringRecord
from harness.variants.model import Variant

NAME = "scoring"  # whose records these are


def asked_for_both(context: PassContext) -> bool:
    """Tell whether the run asks for scores and replies."""
    return {"scoring", "generation"} <= set(context.config.passes)


def rides(prompt: Request, scored: ScoringRequest) -> bool:
    """Tell whether one forward does for both: the tokens that are scored begin with the prompt's."""
    return scored.ids[: len(prompt)] == prompt.ids


def riders(prompts: PromptPlan, references: ReferencePlan) -> list[tuple[Request, ScoringRequest]]:
    """Return the prompts and references that go in together, whether they are finished or not."""
    scored = {request.id: request for request in references.requests}
    pairs = ((prompt, scored[prompt.id]) for prompt in prompts.requests if prompt.id in scored)
    return [(prompt, reference) for prompt, reference in pairs if rides(prompt, reference)]


@dataclass(frozen=True)
class ScoringOnTheWay:
    """One variant's scoring while generation makes its replies; ``missing`` maps dialogues to their records' keys."""

    context: PassContext
    variant: Variant
    scored: Sequence[DialogueRow]
    missing: dict[str, str]

    @classmethod
    def start(cls, context: PassContext, variant: Variant) -> ScoringOnTheWay:
        """Say how much is scored already."""
        scored = [dialogue for dialogue in context.dialogues if dialogue.reference is not None]
        missing = unfinished(context, NAME, variant, ScoringRecord, scored)
        found = cls(context, variant, scored, missing)
        context.progress.start(found.task, len(scored))
        context.progress.advance(found.task, len(scored) - len(missing))
        return found

    @property
    def task(self) -> str:
        return f"{NAME} {self.variant.name}"

    def work(
        self,
        loaded: LoadedModel,
        prompts: PromptPlan,
        unanswered: set[str],
        settings: DecodingSettings,
        encode: EncodedOnce,
    ) -> JointWork:
        """Return the groups that hold a reference not scored yet; note the references that cannot be scored."""
        if not self.missing:
            return JointWork()
        plan = plan_references(self.context, loaded, self.scored, encode)
        refused = [
            ScoringRecord(id=i, key=self.missing[i], **why) for i, why in plan.refusals.items() if i in self.missing
        ]
        self._append(refused, 0)
        groups = joint_groups(
            [
                JointRequest(prompt, reference, answered=prompt.id not in unanswered)
                for prompt, reference in riders(prompts, plan)
            ],
            loaded.model,
            loaded.device,
            columns_for(prompts.requests, settings),
            limit=self.context.config.batch_tokens,
        )
        left = [group for group in groups if any(request.prompt.id in self.missing for request in group)]
        return JointWork(deque(left), self._tell, self._halved)

    def finish(self) -> None:
        self.context.progress.finish(self.task)

    def _tell(self, group: list[ScoringRequest], nlls: list[float]) -> None:
        results = zip(group, nlls, strict=True)
        new = [scoring_record(request, nll, self.missing[request.id])
               for request, nll in results if request.id in self.missing]  # fmt: skip
        self._append(new, sum(len(request) for request in group))

    def _append(self, records: list[ScoringRecord], tokens: int) -> None:
        if records:
            with RecordWriter(self.context.folder.records_path(NAME, self.variant.name)) as out:
                out.append(records)
            self.context.progress.advance(self.task, len(records), tokens)

    def _halved(self, rows: int, rows_now: int) -> None:
        detail = {"pass": NAME, "variant": self.variant.name, "rows": rows, "rows_now": rows_now}
        self.context.event("out-of-memory", detail)
