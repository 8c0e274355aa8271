"""The leaderboard over the runs below a folder."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from harness.errors import HarnessError, InputError, text_of
from harness.files import digest_value
from harness.leaderboard.find import Apart, FoundRun, find_runs, read_run
from harness.leaderboard.same import check_metric, headline_metric, label_of, same_dialogues, same_metric
from harness.leaderboard.standing import MIN_COVERAGE, Contender, stand
from harness.stats.family import confidence_of_all_pairs
from harness.stats.samples import align
from harness.stats.types import Difference, Samples
from harness.store.paths import shorten_paths
from harness.store.schema import EstimateRow

PER_TOKEN, PER_BYTE = ("quality.nll", "quality.perplexity"), "quality.bits_per_byte"


@dataclass(frozen=True, eq=False)
class Entry:
    """One variant of one run. ``folded`` are those with the same weights and the same replies, the newest first."""

    run: FoundRun
    variant: str
    folded: tuple[Entry, ...] = ()

    @property
    def also(self) -> tuple[str, ...]:
        """The names of the folded ones, RUN:VARIANT as on the command line."""
        return tuple(f"{one.run.name}:{one.variant}" for one in self.folded)

    @property
    def compared(self) -> tuple[Entry, ...]:
        """This and the folded ones, the newest first, without those that their run compares with themselves."""
        every = (self, *self.folded)
        same = {(one.run, one.variant) for one in every}
        return tuple(one for one in every if (one.run, one.run.manifest.reference_variant) not in same)

    @property
    def facts(self) -> dict[str, object]:
        """What the run's manifest says of the variant."""
        return next((one for one in self.run.manifest.variants if one.get("name") == self.variant), {})

    def estimate(self, metric: str) -> EstimateRow | None:
        """Return the variant's value of a metric, None if it has none that is a number."""
        found = self.run.summary.metrics.get(metric)
        row = found.variants.get(self.variant) if found else None
        return row if row is not None and row.value is not None and math.isfinite(row.value) else None

    @property
    def answered(self) -> int:
        """The number of dialogues with a reply, or with a likelihood where nothing was generated."""
        covered = self.run.summary.coverage.get(self.variant)
        return min(covered.answered, len(self.run.statistics.measured.units.ids)) if covered else 0


@dataclass(frozen=True)
class Ranked:
    """An entry's place: ``group`` 0 is the first; ``difference`` is to the best, None for that one."""

    entry: Entry
    group: int
    difference: Difference | None


@dataclass(frozen=True)
class Board:
    """The leaderboard. ``confidence`` is that of each interval of a difference, so that all pairs hold at 95 %.

    ``likelihood`` is the metric of it that all of the variants have in common: per token, or per byte where their
    tokenizers differ.

    ``unranked`` are variants without a value, or with one of too few dialogues; ``apart`` are runs that are not
    compared.
    """

    metric: str
    likelihood: str
    dialogues: int
    runs: tuple[FoundRun, ...]
    ranked: tuple[Ranked, ...]
    unranked: tuple[Apart, ...]
    apart: tuple[Apart, ...]
    confidence: float


def leaderboard(root: Path, *, metric: str | None = None, like: Path | None = None) -> Board:
    """Rank every variant of the runs below ``root`` that asked the same dialogues.

    The largest such group of runs is ranked, or that of the run ``like``; ``metric`` defaults to the runs' headline
    metric. Raises InputError if there is no folder, no finished run, or nothing to rank by.
    """
    chosen = read_run(like, like.name) if like else None
    runs, apart = find_runs(root)
    if not runs:
        reasons = "; ".join(f"{one.name}: {one.reason}" for one in apart[:3])
        raise InputError(
            f"{root} contains no finished run. {reasons or 'Finish one with harness run'}".rstrip(".") + "."
        )
    same, others = same_dialogues(runs, chosen)
    if not same:
        raise InputError(f"No run below {root} asked the same dialogues with the same prompts as {like}.")
    if metric is not None:
        check_metric(same, metric)
    metric = metric or headline_metric(same)
    same, differing = same_metric(same, metric, chosen)
    same, unreadable = _readable(same, metric)
    if not same:
        told = f" {unreadable[0].name}: {unreadable[0].reason}" if unreadable else " Choose another with --metric."
        raise InputError(f"No run below {root} has {metric}.{told}")
    entries = _folded([Entry(run, str(one["name"])) for run in same for one in run.manifest.variants])
    entries, unranked = _rankable(entries, metric)
    if not entries:
        raise InputError(f"No variant below {root} can be ranked: {unranked[0].name}: {unranked[0].reason}")
    tokens = _other_tokens(entries)
    if tokens and metric in PER_TOKEN:
        names = " and ".join(f"{one.variant} of {one.run.name}" for one in tokens)
        raise InputError(f"{metric} is per token, and {names} have different tokenizers. Rank by {PER_BYTE}.")
    contenders = {Contender(one.run.statistics, one.variant, _value(one, metric)): one for one in entries}
    places = stand(list(contenders), metric)
    return Board(
        metric=metric,
        likelihood=PER_BYTE if tokens else PER_TOKEN[0],
        dialogues=len(same[0].statistics.measured.units.ids),
        runs=tuple(same),
        ranked=tuple(Ranked(contenders[one.contender], one.group, one.difference) for one in places),
        unranked=tuple(unranked),
        apart=(*others, *differing, *unreadable, *apart),
        confidence=confidence_of_all_pairs(len(entries)),
    )


def _readable(runs: Sequence[FoundRun], metric: str) -> tuple[list[FoundRun], list[Apart]]:
    """Return the runs whose replies can be read, and the others: a seal says nothing of what it is on."""
    kept, others = [], []
    for run in runs:
        try:
            for name in (metric, PER_TOKEN[0]):
                for variant in run.statistics.measured.variants_of(name):
                    run.statistics.measured.samples((name, variant, None))
            kept.append(run)
        except (HarnessError, OSError) as error:
            others.append(Apart(run.name, shorten_paths(text_of(error))))
    return kept, others


def _value(entry: Entry, metric: str) -> float:
    row = entry.estimate(metric)
    assert row is not None
    assert row.value is not None
    return row.value


def _folded(entries: Sequence[Entry]) -> list[Entry]:
    """Fold what was measured twice, the same weights with the same replies, to the newest; keep the order."""
    by_weights: dict[str, list[Entry]] = {}
    for entry in entries:
        by_weights.setdefault(_weights(entry), []).append(entry)
    newest: dict[tuple[str, str], list[Entry]] = {}
    for weights, found in by_weights.items():
        for entry in found:
            replies = _replies(entry) if len(found) > 1 else ""
            newest.setdefault((weights, replies), []).append(entry)
    kept: dict[Entry, Entry] = {}
    for found in newest.values():
        latest, *others = sorted(found, key=_age, reverse=True)
        kept[latest] = Entry(latest.run, latest.variant, tuple(others))
    return [kept[entry] for entry in entries if entry in kept]


def _age(entry: Entry) -> datetime:
    """Return when the entry's run was finished; one that does not say so counts as the oldest."""
    return entry.run.ended or datetime.min.replace(tzinfo=UTC)


def _weights(entry: Entry) -> str:
    """Return what identifies the variant's weights and how they compute; its name where no digest is known."""
    how = [entry.facts.get(key) for key in ("kind", "quantization", "dtype")]
    return digest_value([*_digests(entry), *how] if any(_digests(entry)) else ["name", entry.variant])


def _digests(entry: Entry) -> list[object]:
    return [entry.facts.get(key) for key in ("base_digest", "adapter_digest", "model_digest")]


def _replies(entry: Entry) -> str:
    """Return a digest of the replies' texts and, of unknown weights, of the likelihoods of the references.

    Those of the same weights differ in the last bits between machines.
    """
    rows, known = entry.run.folder.each_reply(entry.variant), any(_digests(entry))
    return digest_value(sorted(digest_value([row.id, row.reply, None if known else row.nll]) for row in rows))


def _rankable(entries: Sequence[Entry], metric: str) -> tuple[list[Entry], list[Apart]]:
    """Return the entries that have a value of nearly all dialogues that any of them answered, and the others."""
    most = max((one.answered for one in entries), default=0)
    kept, others = [], []
    for one in entries:
        reason = ""
        if one.estimate(metric) is None:
            reason = f"It has no {label_of([one.run for one in entries], metric)}."
        elif one.run.statistics.needs_its_module(metric, one.variant):
            reason = f"{metric} is combined by the run's own module, which is not executed."
        elif one.answered < MIN_COVERAGE * most:
            reason = f"It answered {one.answered:,} dialogues where others answered {most:,}."
        if reason:
            others.append(Apart(f"{one.variant} of {one.run.name}", reason))
        else:
            kept.append(one)
    return kept, others


def _other_tokens(entries: Sequence[Entry]) -> tuple[Entry, Entry] | None:
    """Return two entries whose likelihoods are per token of different tokenizers, if there are such."""
    scored = [(one, _tokens(one)) for one in entries if one.estimate("quality.nll")]
    for one, samples in scored[1:]:
        ours, theirs = align(scored[0][1], samples)
        if not np.array_equal(ours.statistics[:, 1], theirs.statistics[:, 1]):
            return scored[0][0], one
    return None


def _tokens(entry: Entry) -> Samples:
    samples = entry.run.statistics.measured.samples(("quality.nll", entry.variant, None))
    assert isinstance(samples, Samples)
    return samples
