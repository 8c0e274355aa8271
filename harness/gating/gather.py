"""From a policy and run folders to evidence: resolve every name and collect every number, without judging."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from harness.errors import InputError, did_you_mean
from harness.gating.evidence import Evidence, Interval, OneDialogue, Scale
from harness.gating.judge import turn
from harness.gating.policy import Check, LoadedPolicy
from harness.gating.sentences import listed
from harness.gating.sides import Side, incomparable
from harness.metrics.registry import MetricSpec
from harness.stats.types import Difference, Estimate

PER_DIALOGUE = ("mean", "rate", "corpus")
SCREEN = "This rule is a screen: read its findings, do not gate on it. Most of what it flags may be harmless."


@dataclass(frozen=True)
class Resolved:
    """A check with every name resolved."""

    check: Check
    index: int
    candidate: str
    spec: MetricSpec
    other: Side | None = None
    other_variant: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Question:
    """The inputs of ``gather``: the policy, the run, and how to open baselines.

    ``open_baseline`` returns the named baseline, or a sentence that says why it cannot be compared with. ``open_set``
    returns a further set of a run.
    ``baseline`` (``--baseline``) replaces any baseline that a check names, and a missing ``against``. ``first``:
    there is none yet, and checks that need one are left out.
    """

    loaded: LoadedPolicy
    run: Side
    candidate: str
    open_baseline: Callable[[str], Side | str]
    open_set: Callable[[Side, str], Side]
    baseline: str | None = None
    first: bool = False


def candidate_of(loaded: LoadedPolicy, run: Side, chosen: str | None) -> str:
    """Return the variant to judge; raise InputError if none is named or it is not in the run."""
    name = chosen or loaded.policy.candidate
    if name is None:
        raise InputError(
            f"{loaded.source}: name the variant to judge with 'candidate:' or --candidate; "
            f"the run has {', '.join(run.variants)}."
        )
    where = "--candidate" if chosen else loaded.where("candidate")
    return _known(name, run.variants, f"{where}: the run has no variant")


def gather(question: Question) -> dict[str, Evidence]:
    """Return the evidence of each check by its id.

    Raises InputError, with the line and the closest known name, for a metric, variant, slice column or baseline that
    does not exist. What exists but was not measured or cannot be compared becomes evidence with a ``problem``.
    """
    asked = [
        (index, check, _of_set(question, index, check))
        for index, check in enumerate(question.loaded.checks)
        if not (question.first and check.needs_baseline)
    ]
    resolved = [(its, _resolve(its, index, check)) for index, check, its in asked]
    metrics: dict[str | None, list[str]] = {}
    for _, one in resolved:
        if one.check.slice is None:
            metrics.setdefault(one.check.set, []).append(one.check.metric)
    for its, one in resolved:
        its.run.statistics.prepare(metrics.pop(one.check.set, ()))
    tested = sum(one.check.rule == "no_regression" for _, one in resolved)
    return {one.check.id: _evidence(its, one, tested) for its, one in resolved}


def _of_set(question: Question, index: int, check: Check) -> Question:
    """Return the question about the set that a check names, of the run and of baselines; raise InputError without."""
    name, run = check.set, question.run
    if name is None:
        return question
    where = question.loaded.where("checks", index, "set")
    if whole := run.folder.whole():
        raise InputError(f"{where}: {run.folder.root} is one set of a run. Gate the run itself: {whole.root}.")
    if not run.manifest.sets:
        raise InputError(
            f"{where}: the run was measured without sets. Name '{name}' under 'sets' in its config, or remove 'set'."
        )
    _known(name, run.manifest.sets, f"{where}: the run has no set")

    def open_baseline(which: str) -> Side | str:
        side = question.open_baseline(which)
        if isinstance(side, str) or (not side.manifest.sets and name == run.manifest.sets[0]):
            return side
        if name not in side.manifest.sets:
            return f"Baseline {side.name} has no set '{name}'."
        return question.open_set(side, name)

    return replace(question, run=question.open_set(run, name), open_baseline=open_baseline)


def _resolve(question: Question, index: int, check: Check) -> Resolved:
    loaded, run = question.loaded, question.run
    at = ("checks", index)
    spec = _metric(question, index, check)
    candidate = question.candidate
    if check.candidate is not None:
        candidate = _variant(question, check.candidate, loaded.where(*at, "candidate"))
    if check.slice:
        column = next(iter(check.slice))
        where = loaded.where(*at, "slice")
        if spec.family == "memory":
            raise InputError(f"{where}: {check.metric} is not measured per dialogue, so 'slice' does not apply.")
        _known(column, run.statistics.measured.units.columns, f"{where}: the dialogues have no column")
    resolved = Resolved(check, index, candidate, spec)
    return _against(question, resolved) if check.compares else resolved


def _metric(question: Question, index: int, check: Check) -> MetricSpec:
    """Return the metric's spec; raise InputError for rules that do not apply to it."""
    where = question.loaded.where("checks", index, "metric")
    run = question.run
    # latency.tpot_ms.p50[engine=eager,batch=4] is a registered metric under a condition.
    spec = run.registry.get(check.metric) or run.registry.get(check.metric.split("[")[0])
    if spec is None:
        known = [*run.summary.metrics, *run.registry]
        raise InputError(f"{where}: there is no metric '{check.metric}'.{did_you_mean(check.metric, known)}")
    if spec.higher_is_better is None and check.rule in ("non_inferiority", "no_regression"):
        raise InputError(
            f"{where}: {check.metric} has no better direction, so '{check.rule}' does not apply; "
            "use 'equivalence', 'min' or 'max'."
        )
    if check.must_pass and (spec.aggregation not in PER_DIALOGUE or spec.family in ("latency", "memory")):
        raise InputError(f"{where}: {check.metric} has no value for a single dialogue, so 'must_pass' does not apply.")
    return spec


def _against(question: Question, resolved: Resolved) -> Resolved:
    check, loaded = resolved.check, question.loaded
    where = loaded.where("checks", resolved.index, "against")
    named = check.against.baseline if check.against else None
    if check.against and named is None:
        variant = check.against.variant or ""
        _variant(question, variant, where)
        if variant == resolved.candidate:
            raise InputError(
                f"{where}: '{variant}' would be compared with itself. Judge another variant with --candidate."
            )
        return replace(resolved, other=question.run, other_variant=variant)
    chosen = question.baseline or named
    if chosen is None:
        raise InputError(
            f"{where}: check '{check.id}' needs something to compare with: 'against: {{variant: …}}', "
            "'against: {baseline: …}' or --baseline."
        )
    variant = (check.against.variant if check.against else None) or resolved.candidate
    try:
        side = question.open_baseline(chosen)
    except InputError as error:
        if question.baseline:
            raise
        raise InputError(f"{where}: {error}") from error
    if isinstance(side, str):
        return replace(resolved, other_variant=variant, problem=side)
    _known(variant, side.variants, f"{where}: baseline {side.name} has no variant")
    return replace(resolved, other=side, other_variant=variant)


def _variant(question: Question, name: str, where: str) -> str:
    """Return a variant that a check names; raise InputError, with the way out, if the run has none of that name."""
    try:
        return _known(name, question.run.variants, f"{where}: the run has no variant")
    except InputError as error:
        against = [(check, check.against) for check in question.loaded.checks]
        naming = [c.id for c, other in against if name in (c.candidate, other and not other.baseline and other.variant)]
        advice = f"Measure it, or copy the file and remove the checks that name it: {listed(naming, 20)}."
        raise InputError(f"{error} {advice}") from None


def _known(name: str, known: Iterable[str], sentence: str) -> str:
    names = tuple(known)
    if name not in names:
        raise InputError(f"{sentence} '{name}'.{did_you_mean(name, names) or ' Known: ' + ', '.join(names) + '.'}")
    return name


def _evidence(question: Question, resolved: Resolved, tested: int) -> Evidence:
    run, check, candidate = question.run, resolved.check, resolved.candidate
    spec, family = resolved.spec, resolved.spec.family
    bare = Evidence(
        metric=check.metric,
        candidate=candidate,
        against=_label(resolved),
        label=_in_words(check.metric, spec) + (f" on {check.set}" if check.set else ""),
        unit=spec.unit,
        higher_is_better=spec.higher_is_better,
        interval=Interval(None, None, question.loaded.policy.defaults.confidence),
        single=family == "memory",
        units={"latency": "requests", "memory": "repeats"}.get(family, "dialogues"),
    )
    problem = resolved.problem or run.measured(check.metric, candidate) or _other_problem(run, resolved)
    if problem:
        return replace(bare, problem=f"On {check.set}: {problem}" if check.set else problem)
    shares = [run.share(candidate), run.readable(check.metric, candidate)]
    if resolved.other is not None and resolved.other_variant is not None:
        other, variant = resolved.other, resolved.other_variant
        shares += [other.share(variant), other.readable(check.metric, variant)]
        bare = _compared(question, resolved, bare, tested)
    else:
        estimate = _estimate(question, run, check, candidate)
        bare = replace(_measured(bare, estimate), candidate_value=estimate.value)
    if spec.screen:
        bare = replace(bare, warnings=(*bare.warnings, SCREEN))
    return replace(bare, coverage=tuple(filter(None, shares)), must_pass=_single_dialogues(question, resolved, bare))


def _in_words(metric: str, spec: MetricSpec) -> str:
    """Return the metric's label, with its conditions: ``Tokens per second (engine eager, batch 4)``."""
    conditions = metric.partition("[")[2].rstrip("]").replace("=", " ").replace(",", ", ")
    return f"{spec.label or metric} ({conditions})" if conditions and spec.label else spec.label or metric


def _label(resolved: Resolved) -> str | None:
    if resolved.other_variant is None:
        return None
    if resolved.other is None or not resolved.other.name:
        return resolved.other_variant
    return f"{resolved.other_variant} of baseline {resolved.other.name}"


def _other_problem(run: Side, resolved: Resolved) -> str | None:
    other, variant = resolved.other, resolved.other_variant
    if other is None or variant is None:
        return None
    problem = other.measured(resolved.check.metric, variant)
    if problem or other is run:
        return problem
    problem = incomparable(run, resolved.candidate, other, variant, resolved.check.metric)
    return problem or _other_slice(run, other, _slice(resolved.check))


def _other_slice(run: Side, other: Side, slice: tuple[str, str] | None) -> str | None:
    """Return why the two runs' slices are not the same dialogues, or None if they are."""
    if slice is None:
        return None
    column, level = slice
    if column not in other.statistics.measured.units.columns:
        return (
            f"Baseline {other.name} has no column '{column}'. If it was accepted with --redact-text, only the text "
            "columns in its config's stats.slices were kept."
        )
    if run.statistics.measured.within(slice) != other.statistics.measured.within(slice):
        return f"In baseline {other.name}, different dialogues have '{level}' in the column '{column}'."
    return None


def _slice(check: Check) -> tuple[str, str] | None:
    return next(iter(check.slice.items())) if check.slice else None


def _measured(bare: Evidence, found: Estimate | Difference) -> Evidence:
    return replace(
        bare,
        value=found.value,
        interval=Interval(found.low, found.high, found.confidence),
        n=found.n,
        method=found.method,
        warnings=found.warnings,
    )


def _estimate(question: Question, side: Side, check: Check, variant: str) -> Estimate:
    confidence = question.loaded.policy.defaults.confidence
    return side.statistics.estimate(check.metric, variant, confidence=confidence, slice=_slice(check))


def _value(question: Question, side: Side, check: Check, variant: str) -> float | None:
    """Return one side's own value, for display and for the sign of a relative margin."""
    if check.slice:
        return _estimate(question, side, check, variant).value
    return side.summary.metrics[check.metric].variants[variant].value


def _compared(question: Question, resolved: Resolved, bare: Evidence, tested: int) -> Evidence:
    check, other, variant = resolved.check, resolved.other, resolved.other_variant
    assert other is not None
    assert variant is not None
    confidence = question.loaded.policy.defaults.confidence
    mine, theirs = _value(question, question.run, check, resolved.candidate), _value(question, other, check, variant)
    bare = replace(bare, candidate_value=mine, other_value=theirs)
    plain = _difference(question, resolved, confidence, None)
    where = question.loaded.where("checks", resolved.index)
    if plain.relative and check.rule not in ("min", "max") and not check.is_relative:
        instead = "max_relative_increase" if check.rule == "no_regression" else "margin_relative"
        raise InputError(f"{where}: {check.metric} is compared as a ratio; give '{instead}' (0.1 is 10 %).")
    factor = None
    if check.is_relative and not plain.relative:
        if check.rule == "equivalence":
            raise InputError(f"{where}: {check.metric} is compared as a difference; give 'margin' in its own unit.")
        if theirs is None:
            return replace(bare, problem=f"{check.metric} of {bare.against} has no value to take a share of.")
        direction = 1 if bare.higher_is_better else -1
        factor = 1 - direction * (1 if theirs >= 0 else -1) * check.margin
        plain = _difference(question, resolved, confidence, factor)
    scale: Scale = "ratio" if plain.relative else "difference"
    evidence = replace(_measured(bare, plain), scale=scale, scaled_other=factor, mde=plain.mde)
    return replace(evidence, steps=_steps(question, resolved, evidence, tested))


def _difference(question: Question, resolved: Resolved, confidence: float, factor: float | None) -> Difference:
    check, other = resolved.check, resolved.other
    return question.run.statistics.difference(
        check.metric,
        resolved.candidate,
        resolved.other_variant or "",
        other=None if other is None or other is question.run else other.statistics,
        confidence=confidence,
        slice=_slice(check),
        factor=1.0 if factor is None else factor,
    )


def _steps(question: Question, resolved: Resolved, evidence: Evidence, tested: int) -> tuple[Interval, ...]:
    """Return the intervals that Holm's procedure may need; none if the plain interval shows no loss."""
    check = resolved.check
    if check.rule != "no_regression" or tested < 2:
        return ()
    turned = turn(check, evidence)
    upper = turned.interval(evidence.interval)[1]
    if upper is None or upper >= turned.limit:
        return ()
    steps = []
    for divided in range(2, tested + 1):
        confidence = 1 - (1 - evidence.interval.confidence) / divided
        found = _difference(question, resolved, confidence, evidence.scaled_other)
        steps.append(Interval(found.low, found.high, confidence))
    return tuple(steps)


def _single_dialogues(question: Question, resolved: Resolved, evidence: Evidence) -> tuple[OneDialogue, ...]:
    """Return the check's number for each dialogue in ``must_pass``."""
    check, other = resolved.check, resolved.other
    if not check.must_pass:
        return ()
    mine = question.run.statistics.unit_values(check.metric, resolved.candidate)
    if other is None or resolved.other_variant is None:
        return tuple(OneDialogue(dialogue, mine.get(dialogue)) for dialogue in check.must_pass)
    theirs = other.statistics.unit_values(check.metric, resolved.other_variant)
    factor = 1.0 if evidence.scaled_other is None else evidence.scaled_other
    return tuple(
        OneDialogue(name, mine[name] - factor * theirs[name] if name in mine and name in theirs else None)
        for name in check.must_pass
    )
