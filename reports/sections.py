"""The sections of the page that a run has something for, each with what it found in one line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from harness.gating.trend import Trend
from reports.charts import Charts
from reports.contenders import noun
from reports.cost_view import CostTable
from reports.fidelity_view import fidelity_rows, unknown_weights
from reports.got_worse import GotWorse
from reports.identity_view import identity_sentences
from reports.load_tests import load_test_rows
from reports.numbers import amount, count, plain
from reports.rules import compared_rules, risen
from reports.trend_view import sentence as trend_sentence
from reports.view import LIKELIHOOD, MEMORY, OVERLAP, TIME, RunView
from reports.words import listed, possessive, sentence_case, the


@dataclass(frozen=True)
class Section:
    """A heading, its name in the table of contents, and the finding that is read without opening it."""

    title: str
    short: str
    finding: str = ""
    folded: bool = True

    def link(self, key: str) -> str:
        """Return what a link to the section names: within a folded one, since that opens it."""
        return f"{key}-in" if self.folded else key


def sections(
    view: RunView,
    charts: Charts,
    costs: CostTable | None = None,
    worse: GotWorse | None = None,
    trend: Trend | None = None,
) -> Mapping[str, Section]:
    """Return the page's sections by id, in their order, without those that the run has nothing for."""
    found: dict[str, Section | None] = {
        "standing": Section(f"Which {noun(view)} is the best", f"{sentence_case(noun(view))}s", folded=False)
        if view.places
        else None,
        "worse": Section("What got worse", "What got worse", folded=False) if worse else None,
        "gate": Section("The gate's checks", "Gate", folded=False) if view.gate else None,
        **{f"set-{name}": Section(f"The set {name}", f"Set {name}", folded=False) for name in view.further_sets},
        "comparison": Section("All figures, side by side", "Comparison", folded=False),
        "seeds": Section("Training seeds: more than luck?", "Seeds", folded=False) if view.summary.recipes else None,
        "trend": Section(f"Baseline {trend.name} over time", "Over time", trend_sentence(trend)) if trend else None,
        "differences": Section(f"Differences to {view.reference}", "Differences", folded=False),
        "quality": Section("Quality: closeness to the references", "Quality", _quality(view)),
        "safety": Section("Safety: what heuristics flag", "Safety", _safety(view)),
        "fidelity": Section("Fidelity: did merging and quantising change the model?", "Fidelity", _fidelity(view)),
        "latency": Section("Latency", "Latency", _values(view, TIME)),
        "memory": Section("Memory", "Memory", _values(view, MEMORY)),
        "training": Section("Training", "Training", _training(charts)),
        "cost": Section("Quality against cost", "Quality against cost", _cost(charts)),
        "price": Section("What 1,000 replies cost", "Price", _price(costs)) if costs else None,
        "slices": Section("Slices", "Slices", _slices(view)),
        "dialogues": Section("Dialogues and replies", "Dialogues", _dialogues(view)),
        "provenance": Section("Provenance", "Provenance", _provenance(view)),
        "reading": Section("How to read this page", "How to read", "Terms, and what the intervals do not cover."),
    }
    further: Mapping[str, Callable[[], bool]] = {
        "fidelity": lambda: bool(fidelity_rows(view) or unknown_weights(view)),
        "latency": lambda: bool(load_test_rows(view)),
        "memory": lambda: bool(view.measurements.memory.records),
        "slices": lambda: bool(view.summary.slices),
    }
    return {
        key: section
        for key, section in found.items()
        if section and (key not in charts.sections or charts.sections[key] or (key in further and further[key]()))
    }


def _quality(view: RunView) -> str:
    name = view.measured((*OVERLAP, *LIKELIHOOD))
    row = view.comparison(name, view.candidate) if name else None
    if name is None or row is None or row.wins is None or row.losses is None:
        return ""
    total = row.wins + row.losses + (row.ties or 0)
    better = f"{the(str(view.candidate))} is better in {plain(float(row.wins), 0)} of {count(total, 'dialogue')}"
    return f"By {view.label(name)}, {better}."


def _safety(view: RunView) -> str:
    rows = compared_rules(view)
    more = [rise.label for rise in risen(view)]
    less = [view.label(name) for name, row in rows.items() if row.outcome == "better"]
    if not rows:
        return ""
    told = [f"more often: {listed(more)}"] if more else []
    told += [f"less often: {listed(less)}"] if less else []
    where = f"In {possessive(str(view.candidate))} replies, rules fire"
    return f"{where} {'; '.join(told)}." if told else f"{where} neither clearly more nor less often."


def _fidelity(view: RunView) -> str:
    if said := identity_sentences(view):
        return " ".join(said)
    rows = fidelity_rows(view)
    return "; ".join(f"{label} {value}, {pair}" for label, pair, value, *_ in rows[:2]) + "." if rows else ""


def _values(view: RunView, names: tuple[str, ...]) -> str:
    name = view.measured(names)
    metric = view.metric(name) if name else None
    if name is None or metric is None:
        return ""
    shown = []
    for variant in view.variants:
        row = view.estimate(name, variant)
        if row and row.value is not None:
            value = amount(row.value, row.low, row.high, unit=metric.unit)[0]
            unit = "" if value.endswith("B") else f"\u00a0{view.unit(name)}"
            shown.append(f"{variant} {value}{unit}")
    return f"{sentence_case(view.label(name))}: {', '.join(shown)}."


def _training(charts: Charts) -> str:
    known = [row for chart in charts.sections["training"] for row in chart.rows if row[1] != plain(None)]
    if not known:
        return ""
    (first, before, *_), (last, after, *_) = known[0], known[-1]
    return f"Training loss {before} at step {first}, {after} at step {last}."


def _cost(charts: Charts) -> str:
    told = []
    for chart in charts.sections["cost"]:
        best = listed([row[0] for row in chart.rows if row[-1] == "yes"])
        told.append(f"in quality and {chart.key.removeprefix('pareto-')}: {best}")
    return f"Not beaten {'; '.join(told)}." if told else ""


def _price(costs: CostTable) -> str:
    """Return the costs under the first condition, usually batch 1."""
    shown = [f"{row.variant} {row.cells[0][0]}" for row in costs.rows if row.cells[0][0]]
    return f"At {costs.conditions[0]}: {', '.join(shown)} {costs.currency}." if shown else ""


def _slices(view: RunView) -> str:
    outcomes = Counter(
        row.comparison.outcome for row in view.summary.slices if row.comparison.variant == view.candidate
    )
    total = sum(outcomes.values())
    if not total:
        return ""
    return f"{count(total, 'comparison')} within slices: {outcomes['better']} better, {outcomes['worse']} worse."


def _dialogues(view: RunView) -> str:
    order = ", lowest difference first" if view.candidate and view.candidate != view.reference else ""
    return f"{count(len(view.dialogues), 'dialogue')}{order}."


def _provenance(view: RunView) -> str:
    sanity = view.manifest.sanity
    failed = sum(not check.ok for check in sanity)
    checks = f"{count(failed, 'sanity check')} failed" if failed else f"{count(len(sanity), 'sanity check')} passed"
    told = checks if sanity else "No sanity checks were run"
    warnings = len(view.manifest.warnings)
    return f"{told}; {count(warnings, 'warning')}." if warnings else f"{told}."
