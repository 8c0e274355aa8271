"""What is asked within a time budget: one question a condition, in the order of who asks it.

The first is every variant's speed at batch 1 on the run's engine, which compares adapter with merged and 4-bit with
unquantised; then throughput at larger batches, the second engine at batch 1, TTFT by prompt length, natural replies,
and last the second engine in batches, where plain ``generate`` takes minutes.

Within a budget a unit is timed once for each variant, and the order of the variants is mirrored in the next unit. More
prompts say more than repeats of the same ones, so a prompt comes again only when all have been timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, groupby
from statistics import fmean

from harness.config import LatencyConfig
from harness.passes.latency.records import Ledger
from harness.passes.latency.units import (
    Engine,
    Prompts,
    Stage,
    Unit,
    Workload,
    at_batch_one,
    by_prompt_length,
    engines_for,
    in_batches,
    of_natural_length,
)
from harness.results.timings import e2e_ms, finished, tpot_ms, ttft_ms
from harness.stats.timing import RatioEvidence, log_ratios, weigh_ratio
from harness.stats.two_stage import needed_requests
from harness.store.schema import LatencyRecord
from harness.variants.model import Variant

MOST = {"fixed": 256, "natural": 64, "sweep": 48, "prefill": 48}  # units of a question
# What is compared. Natural replies differ in length between variants, so no precision is asked for there.
QUANTITIES: Mapping[Workload, Callable[[LatencyRecord], float | None]] = {
    "fixed": tpot_ms,
    "sweep": e2e_ms,
    "prefill": ttft_ms,
}


@dataclass(frozen=True)
class Question:
    """One condition. Its first ``pilot`` units show how many of its units the comparison needs."""

    stage: Stage
    pilot: int

    @property
    def units(self) -> tuple[Unit, ...]:
        return self.stage.units

    def needed(self, ledger: Ledger, variants: Sequence[Variant], precision: float) -> int:
        """Return how many units give every pair of variants the precision, by the pilot's records."""
        asked = self.units[: self.pilot]
        most = self.pilot
        for ratios in self._ratios(asked, ledger, variants).values():
            if len(ratios) > 1:
                most = max(most, needed_requests(list(ratios.values()), precision, len(self.units)))
        return most

    def evidence(self, ledger: Ledger, variants: Sequence[Variant]) -> dict[tuple[str, str], RatioEvidence]:
        """Return what all its records say about each pair of variants."""
        found = self._ratios(self.units, ledger, variants)
        return {pair: weigh_ratio(ratios) for pair, ratios in found.items()}

    def _ratios(
        self, units: Sequence[Unit], ledger: Ledger, variants: Sequence[Variant]
    ) -> dict[tuple[str, str], dict[str, float]]:
        quantity = QUANTITIES.get(self.stage.workload)
        if quantity is None:
            return {}
        values: dict[str, dict[str, dict[int, float]]] = {}
        for variant in variants:
            found: dict[str, dict[int, list[float]]] = {}
            for row in finished(ledger.of(units, variant.name)):
                value = quantity(row)
                if value is not None:
                    found.setdefault(row.id, {}).setdefault(row.repeat, []).append(value)
            values[variant.name] = {
                name: {repeat: fmean(several) for repeat, several in repeats.items()} for name, repeats in found.items()
            }
        return {(b, a): log_ratios(values[b], values[a]) for a, b in combinations(values, 2)}


def questions(held_out: Prompts, settings: LatencyConfig, device: str) -> list[Question]:
    """Return what is asked, most important first; nothing if no prompt fits with its reply."""
    chosen = spread_prompts(held_out.lengths, held_out.context - settings.reply_tokens)
    if not chosen:
        return []
    one_each = settings.model_copy(update={"repeats": 1, "batches": MOST["sweep"]})
    main, *others = reversed(engines_for(settings.engine, device))  # the compiled engine, where it is timed

    def at_one(engine: Engine) -> Iterator[Unit]:
        return over_and_over(at_batch_one(held_out, one_each, engine, chosen[: MOST["fixed"]]), MOST["fixed"])

    def many(engine: Engine) -> Iterator[Unit]:
        return in_batches(held_out, one_each, engine, chosen, device)

    def by_length(engine: Engine) -> Iterator[Unit]:
        return by_prompt_length(held_out, one_each, engine, chosen[: MOST["prefill"]])

    def natural(engine: Engine) -> Iterator[Unit]:
        return of_natural_length(held_out, one_each, engine, chosen[: MOST["natural"]])

    units = [*at_one(main), *many(main)]
    for ask, engines in ((at_one, others), (by_length, (main, *others)), (natural, (main, *others)), (many, others)):
        units += [unit for engine in engines for unit in ask(engine)]
    grouped = (tuple(group) for _, group in groupby(units, key=lambda unit: unit.shape))
    stages = [Stage.of(group) for group in grouped]
    return [Question(stage, settings.prompts if stage is stages[0] else settings.batches) for stage in stages]


def spread_prompts(lengths: Sequence[int], longest: int) -> list[int]:
    """Return the indices of all prompts of at most ``longest`` tokens, so ordered that any first few span the lengths.

    The order of lengths is van der Corput's sequence: the shortest, the middle one, the quarters, the eighths, …
    """
    fitting = sorted((length, index) for index, length in enumerate(lengths) if length <= longest)
    bits = max(1, (len(fitting) - 1).bit_length())
    ranks = (int(f"{number:0{bits}b}"[::-1], 2) for number in range(2**bits))
    return [fitting[rank][1] for rank in ranks if rank < len(fitting)]


def over_and_over(units: Iterable[Unit], most: int) -> Iterator[Unit]:
    """Yield the units again and again, each time as the next repeat."""
    once = list(units)
    for number in range(most):
        yield replace(once[number % len(once)], first=number // len(once))
