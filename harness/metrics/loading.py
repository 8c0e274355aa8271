"""Which metrics there are, and how those that a config names are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.config import MetricOptions
from harness.errors import InputError, did_you_mean
from harness.metrics import fidelity, memory
from harness.metrics import measured as latency
from harness.metrics.likelihood import Likelihood
from harness.metrics.medical.claims import Claims
from harness.metrics.medical.doses import Doses
from harness.metrics.medical.medications import Medications
from harness.metrics.medical.missed_emergency import MissedEmergency
from harness.metrics.medical.negation import NegationFlips
from harness.metrics.medical.over_alarm import OverAlarm
from harness.metrics.registry import Item, Metric, MetricSpec, Scores
from harness.metrics.text.bleu import Bleu
from harness.metrics.text.chrf import Chrf
from harness.metrics.text.form import Form
from harness.metrics.text.meaning import Meaning, meaning_specs, missing_note
from harness.metrics.text.refusal import Refusal
from harness.metrics.text.rouge import Rouge
from harness.metrics.user import user_metrics
from harness.metrics.workers import score_in_workers

Factory = Callable[[MetricOptions], Sequence[Metric]]
FEW = 4  # items that all metrics see before the next: what one has read of a text, the others find remembered
MANY = 512  # items at once for neural encoders, which sort them by length
WORTH_WORKERS = 2000  # items from which starting processes pays


def builtin_factories() -> dict[str, Factory]:
    """Return the groups of built-in metrics that judge replies, by the name a config may call them."""
    return {
        "rouge": lambda options: [Rouge(options.stemmer)],
        "bleu": lambda options: [Bleu()],
        "chrf": lambda options: [Chrf()],
        "likelihood": lambda options: [Likelihood()],
        "form": lambda options: [Form()],
        "medical": lambda options: [
            MissedEmergency(),
            OverAlarm(),
            Medications(),
            Doses(),
            NegationFlips(),
            Refusal(),
        ],
        "claims": lambda options: [Claims()],
        "meaning": lambda options: [Meaning(options.encoder)] if options.encoder else [],
    }


def measured_specs() -> dict[str, tuple[MetricSpec, ...]]:
    """Return the metrics that passes measure themselves, by family."""
    return {"fidelity": fidelity.SPECS, "latency": latency.SPECS, "memory": memory.SPECS}


@dataclass(frozen=True)
class MetricSet:
    """The metrics of one run. ``notes`` says in sentences which metrics are off, and what would turn them on."""

    metrics: tuple[Metric, ...]
    specs: Mapping[str, MetricSpec]
    notes: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    options: MetricOptions = field(default_factory=MetricOptions)

    def score(
        self, items: Sequence[Item], *, workers: int = 1, advance: Callable[[int], None] | None = None
    ) -> list[Scores]:
        """Return one Scores for each item, in order: every metric's values, statistics and findings together.

        ``workers`` processes share the work of many items. ``advance`` is told how many items are done.
        Items of the same dialogue should follow each other: then its reference is read only once.
        """
        if workers > 1 and len(items) >= WORTH_WORKERS:
            scores = score_in_workers(self.names, self.options, items, workers, advance)
            neural = replace(self, metrics=tuple(filter(needs_device, self.metrics)))
            if not neural.metrics:
                return scores
            return [join(both) for both in zip(scores, neural.score_here(items), strict=True)]
        return self.score_here(items, advance=advance)

    def score_here(self, items: Sequence[Item], *, advance: Callable[[int], None] | None = None) -> list[Scores]:
        """Return the same as ``score`` without other processes."""
        device = [metric for metric in self.metrics if needs_device(metric)]
        text = [metric for metric in self.metrics if not needs_device(metric)]
        done: list[Scores] = []
        for start in range(0, len(items), FEW):
            part = items[start : start + FEW]
            done += [join(found) for found in _score_part(text, part)]
            if advance:
                advance(len(part))
        for start in range(0, len(items) if device else 0, MANY):
            part = items[start : start + MANY]
            for place, found in enumerate(_score_part(device, part), start):
                done[place] = join([done[place], *found])
        return [self._selected(scores) for scores in done]

    def without_device(self) -> MetricSet:
        """Return the set without metrics that drive a neural encoder."""
        return replace(self, metrics=tuple(metric for metric in self.metrics if not needs_device(metric)))

    def _selected(self, scores: Scores) -> Scores:
        return Scores(
            {name: value for name, value in scores.values.items() if name in self.specs},
            {name: value for name, value in scores.statistics.items() if name in self.specs},
            tuple(finding for finding in scores.findings if finding.metric in self.specs),
        )


def needs_device(metric: Metric) -> bool:
    """Return whether a metric drives a neural encoder: it wants many replies at once, and no second process."""
    return bool(getattr(metric, "needs_device", False))


def _score_part(metrics: Sequence[Metric], part: Sequence[Item]) -> list[list[Scores]]:
    """Return, for each item, what each metric found."""
    columns = [metric.score(part) for metric in metrics]
    return [[column[place] for column in columns] for place in range(len(part))]


def join(parts: Sequence[Scores]) -> Scores:
    """Return one Scores with all that several metrics found for the same reply."""
    return Scores(
        {name: value for part in parts for name, value in part.values.items()},
        {name: value for part in parts for name, value in part.statistics.items()},
        tuple(finding for part in parts for finding in part.findings),
    )


def load_metrics(names: Sequence[str] | None = None, options: MetricOptions | None = None) -> MetricSet:
    """Return the metrics that ``names`` ask for; without names every default one. User modules always belong to it.

    A name may be a group (``rouge``, ``medical``), a family (``quality``), a full name (``quality.rouge_l``) or its
    last part (``rouge_l``). Raises InputError for an unknown name, or for a metric that lacks what it needs.
    """
    options = options or MetricOptions()
    groups = {name: tuple(factory(options)) for name, factory in builtin_factories().items()}
    own = tuple(user_metrics(options.modules))
    known = {spec.name: spec for metrics in (*groups.values(), own) for metric in metrics for spec in metric.specs}
    _refuse_doubled([spec.name for metric in own for spec in metric.specs], groups)
    measured = measured_specs()
    wanted = _default_names(groups) if names is None else set()
    for name in names or ():
        wanted |= _matching(name, groups, measured, known)
    wanted |= {spec.name for metric in own for spec in metric.specs}
    metrics = tuple(
        metric
        for metric in (*(metric for group in groups.values() for metric in group), *own)
        if any(spec.name in wanted for spec in metric.specs)
    )
    specs = {name: spec for name, spec in known.items() if name in wanted}
    notes = () if options.encoder else (missing_note(),)
    return MetricSet(metrics, specs, notes, None if names is None else tuple(names), options)


def all_specs(options: MetricOptions | None = None) -> dict[str, MetricSpec]:
    """Return every metric by its full name: those of replies, those that passes measure, and a user's own."""
    options = options or MetricOptions()
    specs: dict[str, MetricSpec] = {}
    for factory in builtin_factories().values():
        specs.update({spec.name: spec for metric in factory(options) for spec in metric.specs})
    if not options.encoder:
        specs.update({spec.name: replace(spec, default=False) for spec in meaning_specs("no encoder given")})
    for family in measured_specs().values():
        specs.update({spec.name: spec for spec in family})
    for metric in user_metrics(options.modules):
        specs.update({spec.name: spec for spec in metric.specs})
    return specs


def _default_names(groups: Mapping[str, Sequence[Metric]]) -> set[str]:
    return {spec.name for metrics in groups.values() for metric in metrics for spec in metric.specs if spec.default}


def _matching(
    name: str,
    groups: Mapping[str, Sequence[Metric]],
    measured: Mapping[str, Sequence[MetricSpec]],
    known: Mapping[str, MetricSpec],
) -> set[str]:
    if name in groups and not groups[name]:
        raise InputError(missing_note())
    if name in groups:
        return {spec.name for metric in groups[name] for spec in metric.specs}
    if name in measured or any(name == spec.name for specs in measured.values() for spec in specs):
        return set()  # measured by its pass, whatever the config's metrics say
    found = {full for full, spec in known.items() if name in (full, full.split(".", 1)[1]) or name == spec.family}
    if not found:
        if any(name in (spec.name, spec.name.split(".", 1)[1]) for spec in meaning_specs("")):
            raise InputError(missing_note())
        candidates = [*groups, *measured, *known, *(full.split(".", 1)[1] for full in known)]
        raise InputError(
            f"metrics: there is no metric '{name}'.{did_you_mean(name, candidates)} "
            "`python -m harness metrics` lists them all."
        )
    return found


def _refuse_doubled(own: Sequence[str], groups: Mapping[str, Sequence[Metric]]) -> None:
    taken = {spec.name for metrics in groups.values() for metric in metrics for spec in metric.specs}
    for name in own:
        if name in taken:
            raise InputError(f"metric_options.modules: the metric '{name}' exists already; give yours another name.")
        taken.add(name)
