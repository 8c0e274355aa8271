"""Variants in the groups in which they stand, as rows of finished text: within a run, and over several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from harness.stats.types import Difference
from reports.differences import difference_text
from reports.form_sentence import form_faults
from reports.numbers import amount, plain
from reports.rules import risen
from reports.view import LIKELIHOOD, MEMORY, OVERLAP, RunView
from reports.words import OUTCOMES, Sign, direction

TIMES = ("latency.tpot_ms.p50", "latency.e2e_ms.p50")
FURTHER = (OVERLAP[0], "quality.chrf")


@dataclass(frozen=True)
class Standing:
    """One variant of one run and where it stands: ``group`` 0 is the first.

    ``difference`` is to the best of all, None for that one. ``run`` and ``when`` are empty within a run; ``mark`` is
    the letter of the machine if there are several. ``compared`` is the same variant in the run that compares its
    safety, if that is another one.
    """

    view: RunView
    variant: str
    group: int
    difference: Difference | None
    run: str = ""
    when: str = ""
    also: tuple[str, ...] = ()
    mark: str = ""
    compared: Standing | None = None


@dataclass(frozen=True)
class Head:
    """The heading of a column of figures and what is printed small below it; ``brief`` is a terminal's, if any."""

    label: str
    below: str = ""
    brief: str = ""


@dataclass(frozen=True)
class Figure:
    """A cell: a value with its interval, its sort key, its outcome, and what else there is to say."""

    value: str
    interval: str = ""
    order: float | None = None
    sign: Sign | None = None
    told: str = ""


@dataclass(frozen=True)
class StandingRow:
    """One variant. ``about`` says what it is, ``faults`` what is wrong with its replies."""

    variant: str
    about: str
    run: str
    when: str
    faults: str
    figures: tuple[Figure, ...]

    @property
    def name(self) -> str:
        return f"{self.variant} ({self.run})" if self.run else self.variant


@dataclass(frozen=True)
class StandingTable:
    """Rows in their groups, each with its title. ``explained`` says what was compared, and how it was corrected."""

    heads: tuple[Head, ...]
    groups: tuple[tuple[str, tuple[StandingRow, ...]], ...]
    explained: str

    @property
    def faults(self) -> tuple[str, ...]:
        """What is wrong with the form of the replies, a sentence for each variant."""
        rows = (row for _, members in self.groups for row in members)
        return tuple(f"{row.name} {row.faults}." for row in rows if row.faults)


def standing_table(
    standings: Sequence[Standing], metric: str, *, likelihood: str = LIKELIHOOD[0], confidence: float
) -> StandingTable:
    """Return the table of variants in their order. ``likelihood`` is the metric of it that they have in common."""
    first = standings[0].view
    found = first.metric(metric)
    better = direction(found.higher_is_better if found else None)
    further = [name for name in (*FURTHER, likelihood) if name != metric and _any(standings, name)]
    times = [name for name in TIMES if _any(standings, name)]
    judged = any(
        view.comparison(name, view.candidate)
        for view in {id(one.view): one.view for one in standings}.values()
        for name in view.names("safety")
    )
    sized = any(one.view.measured(MEMORY) for one in standings)
    equal = len(standings) > 1 and len({_value(one, metric).order for one in standings}) == 1
    label = first.label(metric)
    heads = [Head(label, ", ".join(filter(None, (first.unit(metric), better))), label)]
    heads += [Head("To the best", brief="to the best")]
    heads += [_head(standings, name, brief=first.label(name) if name == likelihood else "") for name in further]
    heads += [Head("Safety", "rules that fire more often than for its run's reference")] if judged else []
    heads += [_head(standings, name, brief="ms/token" if name == TIMES[0] else "") for name in times]
    heads += [Head("Memory", "peak", "memory")] if sized else []
    rows = [
        (
            one.group,
            StandingRow(
                variant=one.variant,
                about=_about(one),
                run=one.run,
                when=one.when,
                faults="; ".join(form_faults(one.view, one.variant)),
                figures=(
                    _value(one, metric),
                    _difference(one, metric) if one.difference or not equal else Figure("–"),
                    *(_value(one, name) for name in further),
                    *([_safety(one)] if judged else []),
                    *(_value(one, name, one.mark) for name in times),
                    *([_memory(one)] if sized else []),
                ),
            ),
        )
        for one in standings
    ]
    grouped = [(number, tuple(row for _, row in members)) for number, members in groupby(rows, lambda pair: pair[0])]
    return StandingTable(
        heads=tuple(heads),
        groups=tuple((_title(number, members, grouped[number - 1][1][0]), members) for number, members in grouped),
        explained=explained(len(standings), confidence),
    )


def explained(systems: int, confidence: float) -> str:
    """Say what was compared and how it was corrected."""
    pairs = systems * (systems - 1) // 2
    corrected = (
        f"Each interval of a difference has {plain(100 * confidence, 2)}\u00a0% confidence, which corrects for all "
        f"{pairs} pairs: with 95\u00a0% confidence, none is in a lower group by chance. "
    )
    return (
        "The variant with the best value is compared with each of the others, over the dialogues that both answered. "
        "Those not shown to be worse are in the first group with it; the best of the rest leads the next group in the "
        f"same way. {corrected if pairs > 1 else ''}The order within a group is not one that the data support."
    )


def _title(number: int, members: Sequence[StandingRow], above: StandingRow) -> str:
    if number:
        return f"Group {number + 1}: shown to be worse than {above.name}"
    if len(members) > 1 and len({row.figures[0].order for row in members}) == 1:
        return "Group 1: all have the same value"
    return "Group 1: the best" if len(members) == 1 else f"Group 1: not shown to be worse than {members[0].name}"


def _any(standings: Sequence[Standing], name: str) -> bool:
    return any((row := one.view.estimate(name, one.variant)) and row.value is not None for one in standings)


def _head(standings: Sequence[Standing], name: str, *, brief: str) -> Head:
    view = next(one.view for one in standings if one.view.metric(name))
    return Head(view.label(name), view.unit(name), brief)


def _about(one: Standing) -> str:
    facts = one.view.facts.get(one.variant, {})
    kind, quantization, model = (str(facts.get(key) or "") for key in ("kind", "quantization", "model"))
    parts = ["" if kind in (one.variant, "replies") else kind, "" if quantization == "none" else quantization]
    parts += [f"over {model}" if kind == "adapter" and model else model]
    parts += [f"also measured in {', '.join(one.also)}"] if one.also else []
    return ", ".join(filter(None, parts))


def _value(one: Standing, name: str, mark: str = "") -> Figure:
    row, metric = one.view.estimate(name, one.variant), one.view.metric(name)
    if row is None or row.value is None or metric is None:
        return Figure("–")
    value, interval = amount(row.value, row.low, row.high, unit=metric.unit)
    return Figure(f"{value} {mark}".rstrip(), interval, row.value)


def _difference(one: Standing, name: str) -> Figure:
    metric, found = one.view.metric(name), one.difference
    if found is None or metric is None:
        return Figure("the best")
    if found.value is None:
        return Figure("not compared")
    value, interval = difference_text(found, metric.unit)
    return Figure(value, interval, found.value, OUTCOMES[found.outcome])


def compares_safety(view: RunView, variant: str) -> bool:
    """Return whether a run compares how often the safety rules fire for the variant with its reference."""
    return any(view.comparison(name, variant) for name in view.names("safety"))


def _safety(one: Standing) -> Figure:
    view = one.view
    if one.compared is not None:
        found = _safety(one.compared)
        return replace(found, told="; ".join(filter(None, (found.told, f"compared in {one.compared.run}"))))
    if one.variant == view.reference:
        return Figure("reference")
    if not compares_safety(view, one.variant):
        return Figure("not compared")
    rises = risen(view, one.variant)
    if not rises:
        return Figure("none", order=0.0)
    told = "; ".join(rise.words for rise in rises)
    return Figure(str(len(rises)), order=float(len(rises)), sign=OUTCOMES["worse"], told=told)


def _memory(one: Standing) -> Figure:
    name = one.view.measured(MEMORY)
    return _value(one, name, one.mark) if name else Figure("–")
