"""What is recorded of a run that becomes a baseline: the metrics that its gate checks, and how they changed.

A change is against the run that had the name until then, by the gate's own comparison of two runs. Both runs are there
only while one is accepted in the other's place, so that is when it is computed.
"""

from __future__ import annotations

from harness.errors import HarnessError
from harness.gating.gate import opened_side, side_of
from harness.gating.outputs import read_current
from harness.gating.sides import Side, incomparable
from harness.gating.thresholds_init import COMPARED, LATENCY, MEMORY, candidate_among
from harness.gating.verdict import GateResult
from harness.store.acceptance import AcceptedChange, AcceptedMetric, Measured
from harness.store.folder import RunFolder


def measured(run: RunFolder, before: RunFolder | None) -> Measured:
    """Return the values of a finished run's gated metrics, with their changes since ``before`` if it is given.

    Checks on a slice are left out. A run that was never gated has those that ``thresholds init`` compares.
    """
    side, gate = side_of(run, run.read_manifest()), _verdict(run)
    candidate = _candidate(side, gate)
    first = side.manifest.sets[:1]
    checked = [
        (None if one.set in first else one.set, one.metric, one.candidate)
        for one in (gate.checks if gate else ())
        if one.slice is None
    ]
    usual = [(None, metric, candidate) for metric in (*COMPARED, *LATENCY, *MEMORY)]
    other = _opened(before) if before else None
    role = {candidate: _candidate(other, _verdict(other.folder))} if isinstance(other, Side) else {}
    rows = []
    opened: dict[str | None, tuple[Side | str, Side | str | None]] = {None: (side, other)}
    for name, metric, variant in dict.fromkeys(checked or usual):
        if name not in opened:
            opened[name] = _of_set(side, str(name)), other and _of_set(other, str(name))
        its, before_it = opened[name]
        if isinstance(its, str):
            continue
        found = its.summary.metrics.get(metric)
        estimate = found.variants.get(variant) if found else None
        if found is None or estimate is None:
            continue
        rows.append(
            AcceptedMetric(
                metric=metric,
                set=name,
                variant=variant,
                label=found.label,
                unit=found.unit,
                higher_is_better=found.higher_is_better,
                signature=found.signature,
                value=estimate.value,
                low=estimate.low,
                high=estimate.high,
                n=estimate.n,
                change=_change(its, metric, variant, before_it, role.get(variant, variant)) if before_it else None,
            )
        )
    return Measured(candidate=candidate, metrics=tuple(rows))


def _of_set(side: Side | str, name: str) -> Side | str:
    """Return a run's set as the gate opens it, under the run's name, or why it cannot be compared with."""
    if isinstance(side, str):
        return side
    if name not in side.manifest.sets:
        return f"The run before has no set '{name}'."
    return side if name == side.manifest.sets[0] else _opened(side.folder.set_folder(name), side.name)


def _verdict(run: RunFolder) -> GateResult | None:
    try:
        return read_current(run)
    except (OSError, ValueError):
        return None


def _candidate(side: Side, gate: GateResult | None) -> str:
    """Return the variant that a run was made for: the one its gate judged, else the first adapter."""
    if gate and gate.candidate in side.variants:
        return gate.candidate
    return candidate_among(side.summary, side.manifest.variants, side.manifest.reference_variant, None)


def _opened(before: RunFolder, name: str | None = None) -> Side | str:
    try:
        return opened_side(before, name)
    except HarnessError as error:  # a damaged baseline may be replaced
        return str(error)


def _change(run: Side, metric: str, variant: str, other: Side | str, against: str) -> AcceptedChange | None:
    """Return the change since the other run; None if that has no value of the metric."""
    if isinstance(other, str):
        return AcceptedChange(obstacle=other)
    if run.measured(metric, variant) or other.measured(metric, against):
        return None
    if obstacle := incomparable(run, variant, other, against, metric):
        return AcceptedChange(obstacle=obstacle)
    found = run.statistics.difference(metric, variant, against, other=other.statistics)
    return AcceptedChange(
        value=found.value, low=found.low, high=found.high, relative=found.relative, outcome=found.outcome
    )
