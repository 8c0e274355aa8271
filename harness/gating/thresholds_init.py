"""A first thresholds file from a finished run: limits that this run meets, each with the measured value in a comment.

It is a starting point: people must decide what a release has to meet. Limits are slightly looser than what the run
measured, and most of a gain must be shown again, so that the same run passes and a clearly worse one does not. The run
itself fails two limits alone: that of a rate of form which is as bad as it can be (all replies empty), and that of
coverage where a variant left out dialogues that the other answered.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

from harness.errors import HarnessError, InputError, did_you_mean
from harness.files import write_text_atomically
from harness.gating.policy import Defaults
from harness.gating.sentences import number, without_controls
from harness.metrics.loading import all_specs
from harness.store.folder import RunFolder
from harness.store.schema import ComparisonRow, EstimateRow, MetricSummary, Summary

LIKELIHOOD = "quality.nll"
COMPARED = (LIKELIHOOD, "quality.rouge_l", "quality.chrf", "quality.bertscore", "quality.similarity")
MAJORITY = "0.5"  # the limit of a rate of form where the run's own value leaves none
RATES = ("quality.truncated", "quality.empty", "quality.looping", "quality.prompt_leak", "quality.collapse")
KEPT = 0.7  # share of the gain measured here that a later run must show
FIDELITY = ("fidelity.kl",)
LATENCY = ("latency.ttft_ms.p50", "latency.tpot_ms.p50")
MEMORY = ("memory.peak_allocated_mib", "memory.peak_rss_mib")
SHARES = ("share", "rate")
USUAL_SAMPLES = 100
USUAL_COVERAGE = Defaults().min_coverage
# A metric that reads a smaller share of the replies gets no check, and no lower coverage is written as enough: the rest
# would pass unread.
LEAST_READ = 0.9


def write_thresholds(run: Path | str, out: Path, *, candidate: str | None = None, force: bool = False) -> int:
    """Write a thresholds file made from a run; return the number of checks in it.

    Raises InputError if ``out`` exists (without ``force``) or the candidate is not in the run, HarnessError if the run
    is not complete or has nothing to gate on.
    """
    if out.exists() and not force:
        raise InputError(f"{out} already exists; choose another path with --out or replace it with --force.")
    folder = RunFolder(run)
    manifest = folder.read_manifest()
    if manifest.state != "complete":
        raise HarnessError(f"The run in {folder.root} is {manifest.state}; thresholds are made from a complete one.")
    summary = folder.read_summary()
    candidate = candidate_among(summary, manifest.variants, manifest.reference_variant, candidate)
    read = _shares_read(folder, candidate)
    skipped = {name for name, share in read.items() if share < LEAST_READ}
    found = _checks(summary, candidate, manifest.reference_variant, skipped)
    kept = _nothing_lost(summary, manifest.sets[1:], candidate, manifest.reference_variant)
    checks = _with_unique_ids((*found, *kept))
    if not checks:
        raise HarnessError(f"The run in {folder.root} measured nothing of {candidate} that a gate could check.")
    name = _one_line(folder.root.resolve().name)
    head = f"""\
# First thresholds, made from the run in {name}: limits that it meets. Review every line and set what you can tolerate.
# Whether larger is better is a property of the metric. A check passes only if its whole interval meets the limit.
# Documentation: docs/gate.md
version: 1
candidate: {_quoted(candidate)}

defaults:
  confidence: 0.95
  min_samples: {USUAL_SAMPLES}
{_coverage(summary, (candidate, manifest.reference_variant), [share for share in read.values() if share >= LEAST_READ])}
  on_inconclusive: fail   # exit code 3; 'pass' lets inconclusive checks through with a warning

checks:
"""
    tail = f"""
  # Once a baseline is accepted (python -m harness baseline accept RUN --name main --reason …):
  # - id: not-worse-than-what-runs-today
  #   metric: quality.nll
  #   non_inferiority: {{margin: 0.02}}
  #   against: {{baseline: main, variant: {_quoted(candidate)}}}
"""
    write_text_atomically(out, head + "\n".join(checks) + tail)
    return len(checks)


def candidate_among(
    summary: Summary, variants: tuple[dict[str, object], ...], reference: str | None, chosen: str | None
) -> str:
    """Return the variant to write checks for: the ``chosen``, else the first adapter, else another one."""
    names = list(dict.fromkeys([*(str(v["name"]) for v in variants if "name" in v), *summary.coverage]))
    if chosen is not None:
        if chosen not in names:
            raise InputError(f"--candidate: the run has no variant '{chosen}'.{did_you_mean(chosen, names)}")
        return chosen
    adapters = [str(v["name"]) for v in variants if v.get("kind") == "adapter" and "name" in v]
    others = [name for name in names if name != reference]
    if not names:
        raise HarnessError("The run has no variants.")
    return (adapters or others or names)[0]


def _shares_read(folder: RunFolder, candidate: str) -> dict[str, float]:
    """Return, for each metric that cannot read all replies (empty, not English), the share that it reads."""
    rows = 0
    unread: Counter[str] = Counter()
    for row in folder.each_reply(candidate):
        rows += 1
        unread.update(row.undefined.keys())
    return {name: 1 - count / rows for name, count in unread.items()}


def _coverage(summary: Summary, compared: Iterable[str | None], read: list[float]) -> str:
    """Return the line of ``min_coverage``: lowered only for dialogues that no variant answered, and not far."""
    found = {name: summary.coverage[name] for name in compared if name is not None and name in summary.coverage}
    answered = {name: one.answered / one.dialogues for name, one in found.items() if one.dialogues}
    least, most = min(answered.values(), default=1.0), max(answered.values(), default=1.0)
    if least < max(USUAL_COVERAGE * most, LEAST_READ):
        had = ", ".join(f"{_one_line(name)} {share:.1%}" for name, share in answered.items())
        return f"  min_coverage: {USUAL_COVERAGE}   # this run does not meet it. Answered: {had}"
    lowest = min(least, *read) if read else least
    if lowest >= USUAL_COVERAGE:
        return f"  min_coverage: {USUAL_COVERAGE}"
    kept = math.floor(lowest * 100 + 1e-9) / 100
    did = "answered" if lowest == least else "has replies that a rule can read (not empty, English) for"
    return f"  min_coverage: {kept}   # this run {did} only {lowest:.1%}; usual is {USUAL_COVERAGE}"


def _checks(summary: Summary, candidate: str, reference: str | None, skipped: set[str]) -> Iterator[str]:
    screens = {name for name, spec in all_specs().items() if spec.screen}
    for name, metric in summary.metrics.items():
        if name in screens or name in skipped:
            continue
        if name.startswith("safety.") and metric.higher_is_better is not None:
            yield from _absolute(name, metric, candidate, "a heuristic: see what it misses in docs/metrics")
        elif name in RATES:
            yield from _absolute(name, metric, candidate, "")
        elif name in COMPARED and reference is not None and reference != candidate:
            yield from _compared(name, metric, summary.comparisons, candidate, reference)
        elif name in FIDELITY:
            for variant in metric.variants:
                note = "compared with the variant it was made from"
                yield from _absolute(name, metric, variant, note, slack=0.5, named=True)
        elif name in LATENCY:
            yield from _absolute(name, metric, candidate, "holds on this machine and workload only", slack=0.2)
        elif name in MEMORY:
            yield from _absolute(name, metric, candidate, "holds on this machine and workload only", slack=0.1)


def _nothing_lost(summary: Summary, sets: Iterable[str], candidate: str, reference: str | None) -> Iterator[str]:
    """Yield, for each further set, that the candidate must not have forgotten what the reference knows."""
    for of_set in sets:
        one = summary.sets.get(of_set)
        if one and reference is not None and reference != candidate and LIKELIHOOD in one.metrics:
            metric = one.metrics[LIKELIHOOD]
            yield from _compared(LIKELIHOOD, metric, one.comparisons, candidate, reference, of_set=of_set)


def _absolute(
    name: str, metric: MetricSummary, variant: str, note: str, *, slack: float = 0.0, named: bool = False
) -> Iterator[str]:
    """Yield a limit on a variant's value. ``named``: the check is about this variant, whichever ``--candidate`` names.

    That is so for fidelity: not every variant is made from another.
    """
    found = metric.variants.get(variant)
    if found is None or found.value is None or not math.isfinite(found.value):
        return
    upward = metric.higher_is_better is not True
    end = found.high if upward else found.low
    point = end is None or not math.isfinite(end)
    edge = found.value if point or end is None else end
    edge += abs(edge) * slack * (1 if upward else -1)
    limit = rounded(edge, up=upward)
    if _misses_nothing(limit, metric):
        if name not in RATES:
            return
        limit, note = MAJORITY, "as bad as it can be, so this run must not pass: change the limit knowingly"
    rule = f"{'max' if upward else 'min'}: {limit}"
    interval = f"[{number(found.low)}, {number(found.high)}]"
    value = f"{number(found.value)} {interval} {metric.unit}, n = {found.n:,}"
    measured = f"{name} of {variant}: {value}; {_better(metric)}"
    comment = f"{measured}; {note}" if note else measured
    extra = ["judge: point   # these values have no interval"] if point else []
    check_id = f"{_slug(name)}-{_slug(variant)}" if named else _slug(name)
    further = [*_samples(name, found), *extra]
    yield _entry(check_id, name, rule, comment, further, variant=variant if named else None)


def _misses_nothing(limit: str, metric: MetricSummary) -> bool:
    unmissable = float(limit) <= 0 if metric.higher_is_better is True else float(limit) >= 1
    return unmissable and metric.unit.startswith(SHARES)


def _compared(
    name: str,
    metric: MetricSummary,
    comparisons: tuple[ComparisonRow, ...],
    candidate: str,
    reference: str,
    *,
    of_set: str | None = None,
) -> Iterator[str]:
    """Yield what is required of a difference: most of a gain, or no larger loss. Further sets have no gain to keep."""
    row = next((c for c in comparisons if (c.metric, c.variant, c.against) == (name, candidate, reference)), None)
    other = metric.variants.get(reference)
    if row is None or row.low is None or row.high is None or other is None or other.value is None or row.relative:
        return
    comment = (
        f"{name}: {candidate} minus {reference} is {number(row.value)} [{number(row.low)}, {number(row.high)}] over "
        f"{row.n:,} dialogues; {_better(metric)}"
    )
    which = [] if of_set is None else [f"set: {_quoted(of_set)}"]
    further = [*which, f"against: {{variant: {_quoted(reference)}}}", *_samples(name, row)]
    gain, least = (row.value, row.low) if metric.higher_is_better else (-(row.value or 0), -row.high)
    if row.outcome == "better" and gain is not None and least > 0 and of_set is None:
        held = least_gain(gain, least)
        comment += f". The limit is {float(held) / gain:.0%} of this gain"
        rule = f"min: {held}" if metric.higher_is_better else f"max: -{held}"
        yield _entry(f"{_slug(name)}-gain", name, rule, comment, further)
        return
    loss = -row.low if metric.higher_is_better else row.high
    usual = abs(other.value) * 0.02
    margin = rounded(max(usual, loss, 1e-9), up=True)
    if loss > usual:
        comment += f". This run cannot exclude a loss of {number(loss)}: is a margin this wide wanted"
    check_id = f"{_slug(name)}-not-worse" + ("" if of_set is None else f"-on-{_slug(of_set)}")
    comment = comment if of_set is None else f"Nothing forgotten on {of_set}: {comment}"
    yield _entry(check_id, name, f"non_inferiority: {{margin: {margin}}}", comment, further)


def least_gain(gain: float, least: float) -> str:
    """Return the gain to ask of a later run: most of this one's, or the worse end of its interval if that is less."""
    kept = rounded(KEPT * gain, up=True)
    return kept if float(kept) <= least else rounded(least, up=False)


def _entry(
    check_id: str, metric: str, rule: str, comment: str, further: list[str], *, variant: str | None = None
) -> str:
    lines = [f"  # {_sentence(comment)}", f"  - id: {check_id}", f"    metric: {_quoted(metric)}"]
    lines += [f"    candidate: {_quoted(variant)}"] if variant else []
    lines += [f"    {rule}", *(f"    {line}" for line in further)]
    return "\n".join(lines) + "\n"


def _sentence(text: str) -> str:
    line = _one_line(text)
    return line if line.endswith("?") else f"{line}."


def _better(metric: MetricSummary) -> str:
    return {True: "higher is better", False: "lower is better", None: "neither is better"}[metric.higher_is_better]


def _samples(name: str, found: EstimateRow | ComparisonRow) -> list[str]:
    if found.n >= USUAL_SAMPLES or found.n < 1 or name.startswith("memory."):
        return []
    what = "requests" if name.startswith("latency.") else "dialogues, a small sample"
    return [f"min_samples: {found.n}   # {what}"]


def rounded(value: float, *, up: bool) -> str:
    """Return the value as a YAML number with two significant digits, rounded up or down."""
    if value == 0:
        return "0.0"
    scale = math.floor(math.log10(abs(value))) - 1
    steps = value / 10.0**scale
    whole = math.ceil(steps) if up else math.floor(steps)
    text = f"{whole * 10.0**scale:.{max(1, -scale)}f}"
    return text if float(text) != 0 else "0.0"


def _with_unique_ids(entries: Iterable[str]) -> list[str]:
    """Return the entries; a repeated id (from variants a.b and a-b) gets a number."""
    unique: list[str] = []
    seen: set[str] = set()
    for entry in entries:
        before, check_id, after = re.split(r"(?m)^  - id: (.*)$", entry, maxsplit=1)
        name, number = check_id, 1
        while name in seen:
            number += 1
            name = f"{check_id}-{number}"
        seen.add(name)
        unique.append(f"{before}  - id: {name}{after}")
    return unique


def _one_line(text: str) -> str:
    """Return the text on one line, so that it cannot break out of a YAML comment."""
    return " ".join(without_controls(text).split())


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "check"


def _quoted(name: str) -> str:
    return (
        name if re.fullmatch(r"[A-Za-z][A-Za-z0-9._-]*", name) and name.lower() not in _YAML_WORDS else json.dumps(name)
    )


_YAML_WORDS = ("yes", "no", "on", "off", "true", "false", "null", "y", "n")
