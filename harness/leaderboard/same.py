"""Which of the runs may be ranked together, and why the others may not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from harness.errors import InputError, did_you_mean
from harness.files import digest_value
from harness.leaderboard.find import Apart, FoundRun
from harness.metrics.measured import MEASURED

Key = TypeVar("Key")
# In this order, as on a run's page: what a patient reads decides before the likelihood of the references.
HEADLINES = ("quality.rouge_l", "quality.rouge_lsum", "quality.rouge_1", "quality.chrf", "quality.bleu", "quality.nll")
LIKELIHOODS = ("quality.nll", "quality.perplexity", "quality.bits_per_byte")


def same_dialogues(runs: Sequence[FoundRun], like: FoundRun | None) -> tuple[list[FoundRun], list[Apart]]:
    """Return the largest group of runs that asked the same dialogues with the same prompts, and the others.

    ``like`` chooses the group of that run instead. A run over a further set belongs to a group of that set.
    """

    def key(run: FoundRun) -> tuple[str, str, str]:
        return (run.within, *run.asked)

    def reason(run: FoundRun, chosen: tuple[str, str, str]) -> str:
        within, references, _ = chosen
        if run.within != within:
            told = f"is about the set '{run.within}'" if run.within else "is not about a further set"
        else:
            told = "asked other dialogues" if run.asked[0] != references else "asked the dialogues with other prompts"
        return f"It {told}; --like ranks the runs that did the same."

    return _split(runs, key, reason, like)


def same_metric(runs: Sequence[FoundRun], metric: str, like: FoundRun | None) -> tuple[list[FoundRun], list[Apart]]:
    """Return the runs that measured ``metric`` in the same way, and the others.

    The metric's signature and unit must agree and, unless it is a likelihood of the references, the decoding.
    """

    def key(run: FoundRun) -> tuple[str, str, str] | None:
        found = run.summary.metrics.get(metric)
        if found is None or all(row.value is None for row in found.variants.values()):
            return None
        decoding = "" if metric in LIKELIHOODS else digest_value(run.manifest.config.get("generation"))
        return (found.signature, found.unit, decoding)

    def reason(run: FoundRun, chosen: tuple[str, str, str] | None) -> str:
        own = key(run)
        if own is None or chosen is None:
            return f"It has no {label_of(runs, metric)}."
        if own[:2] != chosen[:2]:
            return f"It computed {metric} in another way: {own[0]}, not {chosen[0]}."
        return "Its replies were decoded with other settings (generation) of its config."

    if like and key(like) is None:
        raise InputError(f"{like.name} has no {metric}. Choose another metric with --metric.")
    measured = [run for run in runs if key(run) is not None]
    without = [Apart(run.name, reason(run, None)) for run in runs if run not in measured]
    same, others = _split(measured, key, reason, like)
    return same, without + others


def label_of(runs: Sequence[FoundRun], metric: str) -> str:
    """Return what the runs call a metric in words; its name if none has it."""
    found = (run.summary.metrics.get(metric) for run in runs)
    return next((one.label for one in found if one and one.label), metric)


def headline_metric(runs: Sequence[FoundRun]) -> str:
    """Return the quality metric to rank by: of ``HEADLINES``, the first that most of the runs measured."""

    def number(metric: str) -> int:
        found = (run.summary.metrics.get(metric) for run in runs)
        return sum(any(row.value is not None for row in one.variants.values()) for one in found if one is not None)

    best = max(HEADLINES, key=number)
    if not number(best):
        raise InputError("None of the runs measured quality. Choose another metric with --metric.")
    return best


def check_metric(runs: Sequence[FoundRun], metric: str) -> None:
    """Raise InputError for a metric that no run has, or that is not measured dialogue by dialogue."""
    known = {name: spec for run in runs for name, spec in run.registry.items()}
    if metric not in known:
        raise InputError(f"There is no metric '{metric}'.{did_you_mean(metric, known)}")
    if known[metric].family in MEASURED:
        raise InputError(f"Runs cannot be ranked by {metric}: it is not measured of each reply. Choose another.")
    if known[metric].higher_is_better is None:
        raise InputError(f"Runs cannot be ranked by {metric}: only a range of it is good. Choose another.")


def _split(
    runs: Sequence[FoundRun],
    key: Callable[[FoundRun], Key],
    reason: Callable[[FoundRun, Key], str],
    like: FoundRun | None,
) -> tuple[list[FoundRun], list[Apart]]:
    """Return the runs with the commonest key (the first of equally common ones), and the others."""
    if not runs:
        return [], []
    keys = [key(run) for run in runs]
    chosen = key(like) if like else Counter(keys).most_common(1)[0][0]
    same = [run for run, own in zip(runs, keys, strict=True) if own == chosen]
    others = [Apart(run.name, reason(run, chosen)) for run, own in zip(runs, keys, strict=True) if own != chosen]
    return same, others
