"""Which units are timed next, by the records alone: a killed pass goes on as if it had not been interrupted.

The first question gets its pilot and, from half of the budget, what its precision needs. The others' pilots follow, so
that no condition is without a value because the first is noisy; what is left goes to the questions in their order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from harness.passes.latency.questions import Question
from harness.passes.latency.records import Ledger
from harness.passes.latency.units import Stage, Unit, slot_of, stages
from harness.results.timings import condition_of, finished
from harness.variants.model import Variant

FIRST_SHARE = 0.5


@dataclass(frozen=True)
class Step:
    """Units to time, as long as there is time: ``affords`` is asked before each of them."""

    stage: Stage
    affords: Callable[[], bool]


def everything(units: Sequence[Unit]) -> Iterator[Step]:
    """Yield all of the units."""
    for stage in stages(units):
        yield Step(stage, lambda: True)


@dataclass
class Budget:
    """The time of the variants of ``group``, which are timed together.

    ``warm_up`` is what of it went into warm-up; ``cold`` are the requests that a stage's warm-up takes now. ``before``
    is what earlier sessions said that they spent.
    """

    seconds: float
    precision: float
    ledger: Ledger
    group: tuple[Variant, ...]
    questions: Sequence[Question]
    warm_up: Callable[[], float]
    cold: Callable[[Stage], Sequence[Unit]]
    before: float = 0.0
    began: float | None = None

    def spent(self) -> float:
        """Return the seconds spent by all sessions: by the clock, and at least by the stamps of the records.

        A killed session may not have said what it spent, but its records do.
        """
        elapsed = 0.0 if self.began is None else time.perf_counter() - self.began
        return max(self.before + elapsed, self.ledger.seconds(self.group) + self.warm_up())

    def steps(self) -> Iterator[Step]:
        """Yield what is to be timed next; nothing when the budget is spent or all is precise enough."""
        self.before, self.began = self.spent(), time.perf_counter()
        first, *others = self.questions
        yield from self._step(first, first.pilot, self.seconds)
        yield from self._step(first, self._needed(first), self.seconds * FIRST_SHARE)
        for question in others:
            yield from self._step(question, question.pilot, self.seconds)
        for question in self.questions:
            yield from self._step(question, self._needed(question), self.seconds)
        self.before, self.began = self.spent(), None

    def reached(self) -> list[dict[str, Any]]:
        """Return what is known of each question; see ``results/precision``."""
        found = []
        for question in self.questions:
            rows = [self.ledger.of(question.units, variant.name) for variant in self.group]
            served = max(len({slot_of(row) for row in finished(one)}) for one in rows)
            if any(rows) and not served:  # an engine that cannot run these variants, or no memory: said elsewhere
                continue
            widths = {
                f"{one}/{other}": None if ends is None else (ends[1] - ends[0]) / 2
                for (one, other), evidence in question.evidence(self.ledger, self.group).items()
                for ends in [evidence.interval(0.95)]
            }
            needed = self._needed(question) if widths else None
            counts = {"timed": served, "needed": needed, "reached": widths}
            condition = condition_of(question.units[0].record(key="")).as_dict()
            found.append({"prompt_tokens": None, "batch": question.units[0].batch, **condition, **counts})
        return found

    def _needed(self, question: Question) -> int:
        return question.needed(self.ledger, self.group, self.precision)

    def _step(self, question: Question, count: int, until: float) -> Iterator[Step]:
        left = self.ledger.unfinished(question.units[:count], self.group)

        def affords() -> bool:
            return self.spent() + self._typical(question) <= until

        # A budget too small for a single unit still times one, or nothing would be known.
        new = not self.ledger.seconds(self.group)
        if left and new:
            yield Step(Stage((left.pop(0),), question.stage.room), lambda: True)
        if left:
            stage = Stage(tuple(left), question.stage.room)
            if self.spent() + self._warming_up(question, stage) + self._typical(question) <= until:
                yield Step(stage, affords)

    def _warming_up(self, question: Question, stage: Stage) -> float:
        """Return the seconds that warming up for this stage of a question will take."""
        tokens = sum(unit.reply_tokens for unit in self.cold(stage))
        return self._typical(question) * tokens / question.units[0].reply_tokens

    def _typical(self, question: Question) -> float:
        """Return the seconds that one unit takes for all variants, with what is captured for it.

        A new question is expected to take as long a token as the slowest of its engine so far, or else of all: within
        an engine the batches grow.
        """
        if (known := self._seconds_a_unit(question)) is not None:
            return known
        replies = [one for one in self.questions if one.units[0].reply_tokens > 1]  # one token takes a whole prompt
        alike = [one for one in replies if one.stage.engine == question.stage.engine]
        rates = self._seconds_a_token(alike) or self._seconds_a_token(replies)
        return max(rates, default=0.0) * question.units[0].reply_tokens

    def _seconds_a_token(self, among: Sequence[Question]) -> list[float]:
        """Return the seconds that a token of each of these questions takes for all variants, where it was timed."""
        units = [(question.units[0], self._seconds_a_unit(question)) for question in among]
        return [seconds / unit.reply_tokens for unit, seconds in units if seconds is not None]

    def _seconds_a_unit(self, question: Question) -> float | None:
        served = max(self.ledger.timed(question.units, variant.name) for variant in self.group)
        return self.ledger.seconds(self.group, question.units) / served if served else None
