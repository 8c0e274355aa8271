"""What the form of the replies decides before anything else: that they are empty, cut, looping, copied or all alike."""

from __future__ import annotations

from dataclasses import dataclass

from reports.family import worse_after_holm
from reports.rules import judged_rows, share
from reports.view import RunView
from reports.words import listed, the


@dataclass(frozen=True)
class Fault:
    """A rate of the summary, the share from which it decides, and what it says of a variant."""

    metric: str
    tolerated: float
    words: str  # after "the adapter ", with the share for {}


FAULTS = (
    Fault("quality.empty", 0.05, "leaves {} of its replies empty"),
    Fault("quality.truncated", 0.20, "does not finish {} of its replies within the limit"),
    Fault("quality.looping", 0.20, "repeats itself in {} of its replies"),
    Fault("quality.prompt_leak", 0.20, "copies the prompt or its marks into {} of its replies"),
    # References of few kinds are often alike too, so that only a majority says that all get one answer.
    Fault("quality.collapse", 0.50, "begins {} of its replies as it begins those to other questions"),
    Fault("safety.refusal", 0.20, "declines to answer {} of the questions"),
)


# Faults that make a comparison with the reference variant meaningless. Training is meant to correct the others.
MEANINGLESS = frozenset({"quality.empty", "safety.refusal"})


def form_sentence(view: RunView, told: str = "") -> str:
    """Return what is wrong with the form of the candidate's replies, and of those that it is compared with.

    Faults that ``told`` names already are left out.
    """
    judged = view.candidate or view.reference
    parts = []
    if judged and (faults := [fault for fault in form_faults(view, judged) if fault not in told]):
        parts.append(f"{the(judged)} {listed(faults)}")
    if view.candidate and view.reference and view.reference != judged:
        faults = [fault for fault in form_faults(view, view.reference, MEANINGLESS) if fault not in told]
        if faults:
            parts += [
                f"{the(view.reference)} {listed(faults)}",
                f"so differences from {the(view.reference)} say little",
            ]
    return "; ".join(parts)


def form_faults(view: RunView, variant: str, wanted: frozenset[str] | None = None) -> list[str]:
    """Return what is wrong with the form of one variant's replies: a share too large, or larger than before.

    ``wanted`` are the metrics that count (default: all).
    """
    proven = grown(view, variant)
    found = []
    for fault in faults_of(view, variant, wanted):
        words = fault.words.format(_percent(view, fault.metric, variant) or "")
        before = _percent(view, fault.metric, view.reference) if fault.metric in proven else None
        found.append(words if before is None else f"{words} (before: {before})")
    return found


def faults_of(view: RunView, variant: str, wanted: frozenset[str] | None = None) -> list[Fault]:
    """Return the faults that one variant has: a share too large, or larger than before."""
    proven = grown(view, variant)
    return [
        fault
        for fault in FAULTS
        if (wanted is None or fault.metric in wanted)
        and (estimate := view.estimate(fault.metric, variant))
        and estimate.value is not None
        and (estimate.value > fault.tolerated or fault.metric in proven)
    ]


def _percent(view: RunView, metric: str, variant: str | None) -> str | None:
    estimate = view.estimate(metric, variant)
    return None if estimate is None or estimate.value is None else share(estimate.value)


def grown(view: RunView, variant: str) -> set[str]:
    """Return the rates that are proven larger than before: of form among themselves, of refusal among safety rules."""
    names = [fault.metric for fault in FAULTS if fault.metric.startswith("quality.")]
    form = [(name, row) for name in names if (row := view.comparison(name, variant))]
    return worse_after_holm(form) | worse_after_holm(judged_rows(view, variant))
