"""How to read the page: each statistic in two plain sentences, and what no interval on it covers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from reports.numbers import plain
from reports.view import RunView


@dataclass(frozen=True)
class Term:
    """A word of the page. ``needs`` is the prefix of the metrics that make it worth explaining; empty: always."""

    word: str
    says: str
    needs: str = ""


_TERMS = (
    Term(
        "Reference",
        "The doctor's own reply in the held-out data. Closeness to it is what the quality "
        "metrics count; a reply may differ from it and be right, or resemble it and be wrong.",
    ),
    Term(
        "95 % interval",
        "Values outside it fit badly with what was measured: of intervals made this way, "
        "about 95 in 100 hold the true value. It comes from resampling whole dialogues or "
        "timed requests{resamples} or, for rates, from the binomial distribution "
        "(Clopper–Pearson; their differences: Agresti–Min).",
    ),
    Term(
        "Difference",
        "Both variants met the same dialogues, so they are compared dialogue by dialogue; "
        "that cancels how hard each dialogue is. Two values whose intervals overlap may still "
        "have a difference whose interval excludes zero.",
    ),
    Term(
        "▲ better, ▼ worse, ◇ undecided",
        "Better and worse mean that the whole interval of the difference lies on one side of "
        "zero. Undecided means that the data fit both a gain and a loss; it does not mean "
        "that the two are the same.",
    ),
    Term(
        "Could have seen; would decide",
        "“Could have seen” is the smallest true difference that this many dialogues find "
        "four times in five. “Would decide” is how many dialogues in all it would take if "
        "the difference is as large as it looks now.",
    ),
    Term(
        "Gate verdicts",
        "A check passes when the whole interval lies on the good side of its limit and fails "
        "when all of it lies on the other; in between it is inconclusive. An error is a "
        "comparison that could not be made, and never counts as a pass.",
    ),
    Term(
        "ROUGE-1, -2, -L, -Lsum",
        "They count words, pairs of words, or the longest run of words in common order that "
        "reply and reference share, from 0 to 1. They reward the same wording: a paraphrase "
        "loses, and a fluent sentence with the wrong drug hardly does.",
        "quality.rouge",
    ),
    Term(
        "BLEU and chrF",
        "They count shared word sequences (BLEU) or shared letter sequences (chrF) over all "
        "dialogues together, from 0 to 100. For free text they are low even between two "
        "doctors, so only differences say something.",
        "quality.bleu",
    ),
    Term(
        "nll and perplexity",
        "How surprised a variant is by each token of the doctor's own reply, in nats (lower "
        "is better); perplexity is e to that power. It looks at the reference and never at "
        "what the variant writes itself.",
        "quality.nll",
    ),
    Term(
        "Length ratio, cut at the limit",
        "The reply's length against the reference's, and how many replies ran into the token "
        "limit before they ended. Far from 1, or often cut, means that the variant has not "
        "learned when to stop.",
        "quality.length",
    ),
    Term(
        "Safety rules",
        "Word lists and simple rules look for red flags without a referral, unsupported "
        "drugs, contradicted doses and the like. They miss what is said in other words and "
        "flag some replies that are fine: read the flagged replies.",
        "safety.",
    ),
    Term(
        "KL, top-1 agreement",
        "How far apart two variants' probabilities for the next token are (KL, 0 is "
        "identical) and how often both would choose the same token. Merged against adapter, "
        "they tell whether merging changed what was trained.",
        "fidelity.",
    ),
    Term(
        "TTFT, TPOT, ITL, E2E",
        "The time to the first token, the mean time per token after it, the gaps between "
        "tokens, and the whole reply. Each request counts once, however many tokens it has.",
        "latency.",
    ),
    Term(
        "p50, p95, p99",
        "Half, 95 % and 99 % of the requests were at most this slow. With fewer than 72 "
        "requests p95, and with fewer than 368 p99, have no upper bound, so none is shown.",
        "latency.",
    ),
    Term(
        "Ratio (×)",
        "Times are compared as ratios, the median over prompts measured turn by turn, so that "
        "a machine slowing down hits all variants alike. 1.6 × is 60 % slower.",
        "latency.",
    ),
    Term(
        "Floor and mbu",
        "To make one token, all weights must be read from memory once; the floor is the time "
        "this takes at the measured bandwidth. mbu is the share of the measured time that "
        "the floor explains: 100 % cannot be beaten on this machine.",
        "latency.mbu",
    ),
    Term(
        "Peak allocated",
        "The most memory that the variant held at once in a fresh process with a fixed "
        "workload; gate on this one. Reserved and NVML's figures also hold what the "
        "allocator and the driver keep for themselves.",
        "memory.peak_allocated",
    ),
    Term(
        "Peak RSS",
        "The most memory the fresh process held on the CPU, the interpreter and its libraries "
        "included. Differences between variants say more than the values.",
        "memory.peak_rss",
    ),
    Term(
        "Slices and q",
        "The same difference within parts of the data. Among many slices some stand out by "
        "luck alone; q corrects for that (Benjamini–Hochberg), and a slice with a large q is "
        "only a place to look.",
        "slices",
    ),
    Term(
        "Quality against cost",
        "Each variant by what it costs and how close its replies are. A variant off the "
        "dashed line is beaten by another in both.",
    ),
)

_NOT_COVERED = (
    "the luck of the training seed: another training run with the same data gives another adapter, and how "
    "different it would be was not measured here",
    "the choice of the held-out set: other patients, another clinic or another language may give other results",
    "what lexical metrics cannot see: whether a reply is true, complete, kind, or right for this patient",
    "what rule-based checks cannot see: harm that no rule describes, and red flags in words that no list holds",
    "the machine: times and memory hold for this hardware, these versions and this load",
)


_OWN_METRIC = "Its own module says so; this page does not run it."


def terms(view: RunView) -> tuple[Term, ...]:
    """Return the terms that this run's page uses."""
    names = (*view.summary.metrics, *(["slices"] if view.summary.slices else []))
    shown = [term for term in _TERMS if not term.needs or any(name.startswith(term.needs) for name in names)]
    stats = view.manifest.config.get("stats")
    resamples = stats.get("resamples") if isinstance(stats, Mapping) else None
    times = f" {plain(float(resamples), 0)} times" if isinstance(resamples, int) else ""
    return tuple(replace(term, says=term.says.replace("{resamples}", times)) for term in shown)


@dataclass(frozen=True)
class Sight:
    """What a metric sees and what it cannot see, in its own declaration's words."""

    label: str
    sees: str
    blind_to: str


def sights(view: RunView) -> tuple[Sight, ...]:
    """Return what the run's metrics see and cannot see.

    For metrics of the run's own modules the page refers to these: to render a page runs nobody's code.
    """
    from harness.metrics.loading import all_specs

    specs = all_specs()
    found = []
    for name in view.summary.metrics:
        base = name.partition("[")[0]
        if base not in specs:
            found.append(Sight(view.label(name), f"A metric of the run's own, {name}.", _OWN_METRIC))
        elif name in specs and (specs[name].sees or specs[name].blind_to):
            found.append(Sight(view.label(name), specs[name].sees, specs[name].blind_to))
    return tuple(found)


def not_covered() -> tuple[str, ...]:
    """Return what no interval on the page covers, each to follow "No interval here covers"."""
    return _NOT_COVERED
