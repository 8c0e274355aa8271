"""Which metrics there are, and how those that a config names are put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from harness.errors import InputError, did_you_mean
from harness.metrics import measured
from harness.metrics.medical.claims import Claims
from harness.metrics.medical.doses import Doses
from harness.metrics.medical.medications import Medications
from harness.metrics.medical.missed_emergency import MissedEmergency
from harness.metrics.medical.negation import NegationFlips
from harness.metrics.medical.over_alarm import OverAlarm
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import Metric, MetricOptions, MetricSpec
from harness.metrics.text.bleu import Bleu
from harness.metrics.text.chrf import Chrf
from harness.metrics.text.form import Form
from harness.metrics.text.meaning import Meaning, meaning_specs, missing_note
from harness.metrics.text.refusal import Refusal
from harness.metrics.text.rouge import Rouge
from harness.metrics.user import user_metrics

Factory = Callable[[MetricOptions], Sequence[Metric]]


def builtin_factories() -> dict[str, Factory]:
    """Return the groups of built-in metrics that judge replies, by the name a config may call them."""
    return {
        "rouge": lambda options: [Rouge(options.stemmer)],
        "bleu": lambda options: [Bleu()],
        "chrf": lambda options: [Chrf()],
        "likelihood": lambda options: [measured.Likelihood()],
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
    return {"fidelity": measured.FIDELITY, "latency": measured.LATENCY, "memory": measured.MEMORY}


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
