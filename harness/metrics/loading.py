"""All metrics, and how to select those that a config names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from harness.errors import InputError, did_you_mean
from harness.metrics.measured import MEASURED, Likelihood
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
from harness.metrics.text.collapse import Collapse
from harness.metrics.text.form import Form
from harness.metrics.text.meaning import Meaning, meaning_specs, missing_note
from harness.metrics.text.refusal import Refusal
from harness.metrics.text.rouge import Rouge
from harness.metrics.user import user_metrics

Factory = Callable[[MetricOptions], Sequence[Metric]]


GROUPS: Mapping[str, Factory] = {
    "rouge": lambda options: [Rouge(options.stemmer, options.words)],
    "bleu": lambda options: [Bleu("13a" if options.bleu_tokenizer == "auto" else options.bleu_tokenizer)],
    "chrf": lambda options: [Chrf()],
    "likelihood": lambda options: [Likelihood()],
    "form": lambda options: [Form(), Collapse()],
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
"""The built-in metrics of replies, in groups by the name that a config may use."""


def load_metrics(names: Sequence[str] | None = None, options: MetricOptions | None = None) -> MetricSet:
    """Return the metrics that ``names`` select, or all default ones; those of user modules are always included.

    A name may be a group (``rouge``, ``medical``), a family (``quality``), a full name (``quality.rouge_l``) or its
    last part (``rouge_l``). Raises InputError for an unknown name, or for a metric whose requirements are missing.
    """
    options = options or MetricOptions()
    groups = {name: tuple(factory(options)) for name, factory in GROUPS.items()}
    known = _specs_of(chain.from_iterable(groups.values()))
    own = user_metrics(options.modules)
    for spec in chain.from_iterable(metric.specs for metric in own):
        if spec.name in known:
            raise InputError(
                f"metric_options.modules: there is already a metric '{spec.name}'; give yours another name."
            )
        known[spec.name] = spec
    if names is None:
        wanted = {name for name, spec in known.items() if spec.default}
    else:
        wanted = {full for name in names for full in _matching(name, groups, known)}
    wanted |= _specs_of(own).keys()
    metrics = tuple(
        metric for metric in chain(*groups.values(), own) if any(spec.name in wanted for spec in metric.specs)
    )
    specs = {name: spec for name, spec in known.items() if name in wanted}
    notes = () if options.encoder else (missing_note(),)
    return MetricSet(metrics, specs, notes, None if names is None else tuple(names), options)


def all_specs(options: MetricOptions | None = None) -> dict[str, MetricSpec]:
    """Return all metrics by full name: those of replies, those that passes measure, and those of user modules."""
    options = options or MetricOptions()
    specs = _specs_of(chain.from_iterable(factory(options) for factory in GROUPS.values()))
    if not options.encoder:
        specs.update({spec.name: replace(spec, default=False) for spec in meaning_specs("no encoder given")})
    specs.update({spec.name: spec for family in MEASURED.values() for spec in family})
    return specs | _specs_of(user_metrics(options.modules))


def _specs_of(metrics: Iterable[Metric]) -> dict[str, MetricSpec]:
    return {spec.name: spec for metric in metrics for spec in metric.specs}


def _matching(name: str, groups: Mapping[str, Sequence[Metric]], known: Mapping[str, MetricSpec]) -> Iterable[str]:
    if name in groups and not groups[name]:
        raise InputError(missing_note())
    if name in groups:
        return _specs_of(groups[name])
    if name in MEASURED or any(name == spec.name for specs in MEASURED.values() for spec in specs):
        return ()  # measured by its pass regardless of the config's metrics
    found = [full for full, spec in known.items() if name in (full, full.split(".", 1)[1]) or name == spec.family]
    if not found:
        if any(name in (spec.name, spec.name.split(".", 1)[1]) for spec in meaning_specs("")):
            raise InputError(missing_note())
        candidates = [*groups, *MEASURED, *known, *(full.split(".", 1)[1] for full in known)]
        raise InputError(
            f"metrics: there is no metric '{name}'.{did_you_mean(name, candidates)} "
            "`python -m harness metrics` lists them all."
        )
    return found
