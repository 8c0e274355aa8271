"""Coverage: how many of the held-out dialogues a variant answered, and why the rest are missing."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from itertools import compress

from harness.files import read_rows
from harness.results.analysis import Analysis
from harness.results.columns import State
from harness.stats.proportions import clopper_pearson
from harness.store.schema import Coverage, GenerationRecord, LatencyRecord, Record, ScoringRecord, record_of

FAILED = "error"
MISSING = "missing"


def coverage_of(analysis: Analysis, variant: str) -> Coverage:
    """Return a variant's coverage; answered and skipped add up to the number of dialogues.

    A dialogue counts as answered if it has a reply; in runs without generation, if its reference was scored; in runs
    with neither (latency or memory only), if no timing failed. ``not_scored`` says why a reference of a dialogue that
    was answered was not scored, for example because prompt and reference together are too long.
    """
    ids = analysis.measured.units.ids
    passes = _passes(analysis)
    having = partial(_ids_having, analysis, variant)
    failed = having(State.ERROR)
    scoring = _reasons(analysis, ScoringRecord, "scoring", variant)
    if "generation" in passes:
        reasons = _reasons(analysis, GenerationRecord, "generation", variant)
        answered = having(State.REPLY) - reasons.keys()
    elif "scoring" in passes:
        reasons = scoring
        answered = having(State.NLL)
    else:
        reasons = _reasons(analysis, LatencyRecord, "latency", variant)
        answered = set(ids) - set(reasons)
    skipped = Counter(reasons.get(name, FAILED if name in failed else MISSING) for name in ids if name not in answered)
    not_scored = Counter(reason for name, reason in scoring.items() if name in answered)
    unfinished = len(having(State.UNFINISHED) & answered)
    made = estimated(len(ids), len(ids) - skipped.total(), dict(sorted(skipped.items())), unfinished)
    further = {"not_scored": dict(sorted(not_scored.items())), "not_measured": _not_measured(analysis, variant)}
    return made.model_copy(update=further)


def _ids_having(analysis: Analysis, variant: str, state: State) -> set[str]:
    having = analysis.measured.replies.having(variant, state)
    return set(compress(analysis.measured.units.ids, having.tolist()))


def estimated(dialogues: int, answered: int, skipped: dict[str, int], unfinished: int = 0) -> Coverage:
    """Return the coverage with its share and interval, like any other rate over dialogues."""
    if not dialogues:
        return Coverage(dialogues=0, answered=0, skipped=skipped)
    low, high = clopper_pearson(answered, dialogues)
    return Coverage(
        dialogues=dialogues,
        answered=answered,
        skipped=skipped,
        unfinished=unfinished,
        value=answered / dialogues,
        low=low,
        high=high,
    )


def _not_measured(analysis: Analysis, variant: str) -> dict[str, str]:
    """Return why each requested pass measured nothing of a variant: the reason that most of its records give.

    A pass without any record had nothing to do with the variant, e.g. fidelity with the one that others are compared
    with.
    """
    asked = analysis.measured.manifest.config.get("passes") or () if analysis.measured.manifest.kind == "run" else ()
    found = {}
    for name in asked:
        path, model = analysis.folder.records_path(name, variant), record_of(name)
        if model is None or not os.path.exists(path):  # noqa: PTH110 – a name from run.json may be too long for a file
            continue
        reasons: Counter[str] = Counter()
        for record in read_rows(model, path, torn_tail="ignore"):
            if record.error is None and record.skipped is None:
                break
            reasons[record.error or record.skipped or ""] += 1
        else:
            if reasons:
                found[name] = reasons.most_common(1)[0][0]
    return found


def _passes(analysis: Analysis) -> frozenset[str]:
    """Return the passes of the run; replies generated outside the harness count as generation."""
    manifest = analysis.measured.manifest
    if manifest.kind == "score":
        return frozenset({"generation"})
    passes = manifest.config.get("passes")
    if passes is not None:
        return frozenset(passes)
    found = {
        name
        for name in ("generation", "scoring")
        for variant in analysis.measured.variants
        if analysis.folder.records_path(name, variant).exists()
    }
    return frozenset(found)


def _reasons(analysis: Analysis, model: type[Record], pass_name: str, variant: str) -> dict[str, str]:
    """Return the recorded reason for each dialogue that has no result of a pass."""
    reasons = {}
    for record in analysis.folder.records(model, pass_name, variant):
        if record.skipped is not None:
            reasons[record.id] = record.skipped
        elif record.error is not None:
            reasons[record.id] = FAILED
        else:
            reasons.pop(record.id, None)
    return reasons
