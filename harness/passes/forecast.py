"""About how long the passes will take, said before the long work: by a short trial of one variant.

The trial is of the first adapter, the slowest of the usual variants, or else of the first variant. Replies are reckoned
at their full length, so the figures are upper bounds more often than not. The memory pass is left out: what its fresh
processes take is mostly loading.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from harness.backends.base import DecodingSettings, Request
from harness.backends.local.batches import columns_for, longest_first
from harness.backends.local.device import is_out_of_memory, synchronize
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.pool import LoadedModel
from harness.backends.local.replies import generate_replies, scores_on_the_way
from harness.backends.local.scoring import CausalForward, ScoringRequest, negative_log_likelihoods
from harness.dialogues.tokens import encode_prompt, encode_scored
from harness.passes.base import PassContext
from harness.passes.joint import rides
from harness.passes.latency import run as latency
from harness.passes.plans import context_length, unfinished
from harness.progress import duration
from harness.store.schema import DialogueRow, FidelityRecord, GenerationRecord, LatencyRecord, ScoringRecord
from harness.variants.relations import pairs

TRIAL_DIALOGUES = 16
TRIAL_TOKENS = 8


@dataclass(frozen=True)
class Trial:
    """Seconds to score one dialogue by itself, and on generation's way; to begin a reply; and for a further token of
    replies made together, and of one by itself (its prompt's share included)."""

    scoring: float
    riding: float
    begun: float
    together: float
    alone: float


@dataclass(frozen=True)
class Left:
    """What is still to be done: dialogues to score (for all variants), dialogues to score while they are replied to,
    replies to begin and their tokens, dialogues to hold against another variant's, and tokens to time."""

    scoring: int
    riding: int
    replies: int
    generation: int
    fidelity: int
    latency: int

    def seconds(self, trial: Trial) -> dict[str, float]:
        """Return the seconds of each pass that has something to do. Fidelity is two forwards for each dialogue."""
        found = {
            "scoring": self.scoring * trial.scoring + self.riding * trial.riding,
            "generation": self.replies * trial.begun + self.generation * trial.together,
            "fidelity": 2 * self.fidelity * trial.scoring,
            "latency": self.latency * trial.alone,
        }
        return {name: seconds for name, seconds in found.items() if seconds}


def say_forecast(context: PassContext) -> None:
    """Say about how long what is left will take; say nothing where nothing is left or no trial can be made."""
    left = what_is_left(context)
    if left == Left(0, 0, 0, 0, 0, 0):
        return
    variant = next((one for one in context.variants if one.kind == "adapter"), context.variants[0])
    try:
        with context.pool.use(variant) as loaded, FusedLayers(loaded.model, loaded.device).installed():
            trial = try_out(loaded, context.dialogues)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return  # the passes know how to go on with less
    if trial is not None:
        context.progress.note(sentence(left.seconds(trial), variant.name))


def sentence(seconds: dict[str, float], tried: str) -> str:
    """Return the forecast as one line."""
    parts = ", ".join(f"{name} {duration(max(1.0, value))}" for name, value in seconds.items())
    total = duration(max(1.0, sum(seconds.values())))
    return f"About {total} ahead at full reply length, by a short trial of {tried} ({parts}; memory not counted)."


def what_is_left(context: PassContext) -> Left:
    """Return what no record is on disk for yet, of the passes that the run asks for."""
    passes, rows = set(context.config.passes), context.dialogues
    scored = [row for row in rows if row.reference]
    scoring = riding = begun = generation = compared = timed = 0
    for variant in context.variants:
        replies: dict[str, str] = {}
        if "generation" in passes:
            replies = unfinished(context, "generation", variant, GenerationRecord, rows)
            begun += len(replies)
            generation += len(replies) * context.config.generation.max_new_tokens
        if "scoring" in passes:
            scores = unfinished(context, "scoring", variant, ScoringRecord, scored)
            riding += len(scores.keys() & replies.keys())
            scoring += len(scores.keys() - replies.keys())
    if "fidelity" in passes:
        for pair in pairs(context.variants, context.config.fidelity):
            done = context.folder.records(FidelityRecord, "fidelity", pair.variant)
            compared += max(0, len(scored) - sum(record.against == pair.against for record in done))
    if "latency" in passes:
        done_tokens = sum(
            len(record.stamps_ns)
            for variant in context.variants
            for record in context.folder.records(LatencyRecord, "latency", variant.name)
        )
        timed = max(0, latency.planned_tokens(context) - done_tokens)
    return Left(scoring, riding, begun, generation, compared, timed)


def try_out(loaded: LoadedModel, dialogues: Sequence[DialogueRow]) -> Trial | None:
    """Score and answer a few dialogues spread over the run; None where none of them fits the context."""
    picked = dialogues[:: max(1, len(dialogues) // TRIAL_DIALOGUES)][:TRIAL_DIALOGUES]
    room = context_length(loaded.model) - TRIAL_TOKENS - 1
    prompts = [Request(row.id, tuple(encode_prompt(loaded.tokenizer, row.prompt))) for row in picked]
    prompts = [request for request in prompts if 0 < len(request) <= room]
    if not prompts:
        return None
    references = _references(loaded, picked)
    scoring = _seconds_to_score(loaded, references)
    settings = DecodingSettings(1 + TRIAL_TOKENS, fixed_length=True)
    riding = scoring * _share_of_its_own(loaded, prompts, references, settings)

    def seconds(requests: list[Request], tokens: int) -> float:
        """Return what replies of so many tokens take."""
        made = DecodingSettings(tokens, fixed_length=True)
        return _seconds(lambda: list(generate_replies(loaded, requests, made)), loaded.device)

    first = seconds(prompts, 1)
    further = max(0.0, seconds(prompts, 1 + TRIAL_TOKENS) - first)
    return Trial(
        scoring=scoring,
        riding=riding,
        begun=first / len(prompts),
        together=further / (TRIAL_TOKENS * len(prompts)),
        alone=seconds(prompts[:1], TRIAL_TOKENS) / TRIAL_TOKENS,
    )


def _references(loaded: LoadedModel, rows: Sequence[DialogueRow]) -> list[ScoringRequest]:
    """Return the references that fit the context, as they are scored."""
    requests = []
    for row in rows:
        if row.reference:
            ids, n_context = encode_scored(loaded.tokenizer, row.prompt, row.reference)
            if n_context < len(ids) <= context_length(loaded.model):
                requests.append(ScoringRequest(row.id, tuple(ids), n_context))
    return requests


def _seconds_to_score(loaded: LoadedModel, requests: list[ScoringRequest]) -> float:
    """Return the seconds a dialogue, 0 where there is none."""
    if not requests:
        return 0.0
    forward = CausalForward(loaded.model)
    batch = longest_first(requests)
    return _seconds(lambda: negative_log_likelihoods(forward, batch, loaded.device), loaded.device) / len(batch)


def _share_of_its_own(
    loaded: LoadedModel, prompts: list[Request], references: list[ScoringRequest], settings: DecodingSettings
) -> float:
    """Return the share of scoring's tokens that generation does not put through the model anyway."""
    if not references or not scores_on_the_way(loaded, columns_for(prompts, settings)):
        return 1.0
    known = {request.id: request for request in prompts}
    shared = sum(
        len(known[scored.id]) for scored in references if scored.id in known and rides(known[scored.id], scored)
    )
    return 1 - shared / sum(map(len, references))


def _seconds(work: Callable[[], object], device: str) -> float:
    """Return the seconds of a second go: the first pays for what is made once."""
    work()
    synchronize(device)
    started = time.perf_counter()
    work()
    synchronize(device)
    return time.perf_counter() - started
