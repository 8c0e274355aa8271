"""The latency pass: every token of every timed request gets a host timestamp; metrics are computed from them later.

Four workloads, each over the held-out prompts:

- ``fixed``: batch 1, a fixed reply length;
- ``natural``: batch 1, each reply as long as the model makes it;
- ``prefill``: prompts of set lengths and a single token, for TTFT;
- ``sweep``: fixed replies in batches of growing size (one record per batch in lockstep), until memory runs out.

Of served variants, single requests and closed loops are timed; see ``server``. They have a share of the time budget by
their number, and are timed after the local variants.

Variants are interleaved for each prompt in mirrored random order; see ``session``. ``budget`` decides how many prompts
are timed, or the config where it sets no budget.

The records of a unit are written when all its variants and repeats are done, so that an interrupted run never
compares a prompt across two processes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from harness.backends.base import Capability
from harness.errors import HarnessError
from harness.passes.base import Conditions, Pass, PassContext
from harness.passes.latency.budget import Budget, Step, everything
from harness.passes.latency.facts import publish, read_facts, write_facts
from harness.passes.latency.questions import Question, questions
from harness.passes.latency.records import TASK, Ledger
from harness.passes.latency.server import plan_for_server, questions_to_server
from harness.passes.latency.session import Group, Session, orders
from harness.passes.latency.units import Prompts, plan
from harness.passes.plans import EncodedOnce, encode_dialogue_prompt, tokenizer_of
from harness.progress import EventKind
from harness.results.precision import is_short, sentences
from harness.store.schema import LatencyRecord
from harness.time_left import Work


def run(context: PassContext) -> None:
    """Time the unfinished units; see the module's docstring.

    Raises HarnessError if no prompt fits into the context together with the fixed reply.
    """
    facts = read_facts(context.folder)
    for served in (False, True):
        variants = tuple(variant for variant in context.variants if variant.is_served == served)
        if variants:
            _time(replace(context, variants=variants), facts, len(variants) / len(context.variants))
    publish(context, facts)


def _time(context: PassContext, facts: dict[str, Any], share: float) -> None:
    """Time variants of which all are served or none; ``share`` is theirs of the time budget."""
    config, held_out = context.config.latency, _prompts(context)
    within = config.budget_minutes is not None
    if context.variants[0].is_served:
        asked = questions_to_server(held_out, config) if within else []
        units = [unit for question in asked for unit in question.units] or plan_for_server(held_out, config)
    else:
        asked = questions(held_out, config, context.device) if within else []
        units = [unit for question in asked for unit in question.units] or plan(held_out, config, context.device)
    if not units:
        reply = config.reply_tokens
        raise HarnessError(f"No prompt fits the context with a reply of {reply} tokens. Lower latency.reply_tokens.")
    ledger = Ledger(context, units)
    if ledger.unfinished(units, context.variants):
        together = context.backends.fit_together(context.variants)
        groups = [context.variants] if together else [(variant,) for variant in context.variants]
        facts["interleaved"] = together
        if not together:
            detail = "the variants do not fit into memory together: timed one after another, drift does not cancel"
            context.event(EventKind.LATENCY_SEQUENTIAL, {"detail": detail})
        session = Session(context, facts, ledger, units, orders(units, asked))
        if config.budget_minutes is None:
            _time_everything(session, groups)
        else:
            _time_within(share * config.budget_minutes * 60.0, session, groups, asked)


def settings(on: Conditions) -> dict[str, Any]:
    # The budget says how many requests are timed, not how: their records hold under any. So do those of a concurrency.
    return {
        **on.config.latency.model_dump(mode="json", exclude={"budget_minutes", "precision", "concurrency", "imported"}),
        "longest": on.config.generation.max_new_tokens,
        "machine": on.machine,
        "threads": on.config.threads,
    }


PASS = Pass(LatencyRecord, needs=frozenset({Capability.TOKENS, Capability.TIME}), settings=settings, run=run)


def _time_everything(session: Session, groups: Sequence[Group]) -> None:
    progress, ledger = session.context.progress, session.ledger
    missing = [(group, ledger.unfinished(session.units, group)) for group in groups]
    total = sum(unit.repeats * len(group) for group, left in missing for unit in left)
    progress.start(TASK, total, "requests")
    session.context.time_left.begin(PASS.name, "", Work(total))
    work = ((group, step) for group, left in missing for step in everything(left))

    def advance(tokens: int) -> None:
        session.context.time_left.done()
        progress.advance(TASK, 1, tokens)

    session.time(work, advance)
    progress.finish(TASK)


def _time_within(seconds: float, session: Session, groups: Sequence[Group], asked: Sequence[Question]) -> None:
    """Time what the budget allows, and say what that reached; progress counts the seconds of the budget."""
    context, each = session.context, seconds / len(groups)
    precision = context.config.latency.precision
    before = session.facts.setdefault("spent", {})
    budgets = [
        Budget(
            each,
            precision,
            session.ledger,
            group,
            asked,
            warm_up=partial(session.warmed_up, group),
            cold=partial(session.cold, group),
            before=before.get(_name(group), 0.0),
        )
        for group in groups
    ]
    context.progress.start(TASK, round(seconds), "seconds")
    context.time_left.begin(PASS.name, "", Work(round(seconds)))
    shown = 0

    def advance(tokens: int) -> None:
        nonlocal shown
        before.update((_name(budget.group), budget.spent()) for budget in budgets)
        new = min(round(sum(budget.spent() for budget in budgets)), round(seconds)) - shown
        if new > 0:
            context.time_left.done(new)
            context.progress.advance(TASK, new, tokens)
            shown += new

    session.time(_in_turn(budgets), advance)
    before.update((_name(budget.group), budget.spent()) for budget in budgets)
    context.progress.finish(TASK)
    facts = {
        "asked": precision,
        "budget_seconds": seconds,
        "spent_seconds": sum(budget.spent() for budget in budgets),
        "questions": replace(budgets[0], group=context.variants).reached(),
    }
    whole = {
        "budget_seconds": 60.0 * (context.config.latency.budget_minutes or 0.0),
        "spent_seconds": sum(before.values()),
    }
    known = _with_the_others(session.facts.get("precision"), facts, of_server=session.of_server)
    session.facts["precision"] = {**known, **whole}
    write_facts(context.folder, session.facts)
    said = sentences(facts)
    for sentence in said:
        context.progress.note(f"Latency: {sentence}")
    if is_short(facts):
        context.event(EventKind.LATENCY_BUDGET, {"detail": " ".join(said)})


def _with_the_others(before: dict[str, Any] | None, facts: dict[str, Any], *, of_server: bool) -> dict[str, Any]:
    """Return the facts with the questions, known before, that were asked of this machine or else of servers."""
    others = [one for one in (before or {}).get("questions", ()) if (one["engine"] == "server") != of_server]
    return {
        **facts,
        "questions": [*facts["questions"], *others] if not of_server else [*others, *facts["questions"]],
    }


def _name(group: Group) -> str:
    return " ".join(variant.name for variant in group)


def _in_turn(budgets: Sequence[Budget]) -> Iterator[tuple[Group, Step]]:
    for budget in budgets:
        for step in budget.steps():
            yield budget.group, step


def _prompts(context: PassContext) -> Prompts:
    backends = {variant.name: context.backends.of(variant) for variant in context.variants}
    tokenizers = {name: tokenizer_of(backend) for name, backend in backends.items()}
    encode = EncodedOnce(encode_dialogue_prompt)
    ids = {
        name: tuple(tuple(encode(tokenizer, row)[0]) for row in context.dialogues)
        for name, tokenizer in tokenizers.items()
    }
    first = context.variants[0].name
    return Prompts(
        rows=context.dialogues,
        ids=ids[first],
        context=min(backend.context_length for backend in backends.values()),
        longest_reply=context.config.generation.max_new_tokens,
        others={name: ids[name] for name, tokenizer in tokenizers.items() if tokenizer is not tokenizers[first]},
    )
