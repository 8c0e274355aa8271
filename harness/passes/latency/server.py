"""What is asked of a server: single requests, and a closed loop at each concurrency.

The unit of a closed loop is a window: a few rounds of prompts, of which as many are under way at once as the
concurrency says, and the next is sent when one is answered. A window is timed as a whole for one variant before that of
the next, so that served variants are interleaved as local ones are, and no two of them load a server together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from harness.config import LatencyConfig
from harness.passes.latency.questions import MOST, Question, over_and_over, spread_prompts
from harness.passes.latency.units import Prompts, Stage, Unit, at_batch_one, batches, choose_prompts, of_indices

ROUNDS = 4  # so that the ends of a window, where fewer are under way, weigh little


def questions_to_server(held_out: Prompts, settings: LatencyConfig) -> list[Question]:
    """Return what is asked within a time budget, the lowest concurrency first; nothing if no prompt fits."""
    chosen = spread_prompts(held_out.lengths, held_out.context - settings.reply_tokens)
    one_each = settings.model_copy(update={"repeats": 1, "batches": MOST["sweep"]})
    found: list[Question] = []
    for at_once in sorted(set(settings.concurrency)) if chosen else ():
        if at_once == 1:
            units = over_and_over(at_batch_one(held_out, one_each, "server", chosen[: MOST["fixed"]]), MOST["fixed"])
        else:
            units = windows(held_out, one_each, chosen, at_once)
        found.append(Question(Stage.of(tuple(units)), settings.prompts if at_once == 1 else settings.batches))
    return found


def plan_for_server(held_out: Prompts, settings: LatencyConfig) -> list[Unit]:
    """Return all units where there is no budget; none if no prompt fits with its reply."""
    chosen = choose_prompts(held_out.lengths, settings.prompts, held_out.context - settings.reply_tokens)
    units: list[Unit] = []
    for at_once in sorted(set(settings.concurrency)) if chosen else ():
        if at_once == 1:
            units += at_batch_one(held_out, settings, "server", chosen)
        else:
            units += windows(held_out, settings, chosen, at_once)
    return units


def windows(held_out: Prompts, settings: LatencyConfig, chosen: Sequence[int], at_once: int) -> Iterator[Unit]:
    """Yield the windows of one concurrency."""
    for number, picks in enumerate(batches(chosen, ROUNDS * at_once, settings.batches)):
        unit = of_indices(held_out, "sweep", "server", picks, settings.reply_tokens, settings.repeats)
        yield replace(unit, name=f"{at_once}-at-once-{number}-{unit.digest}", at_once=at_once)
