"""What to do where a check could not be judged: each sentence says what is missing, and the ways out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.gating.evidence import Share
from harness.gating.sentences import counted, listed
from harness.gating.verdict import CheckResult
from harness.store.schema import pass_names

NO_CONTEXT_LIMIT = 10_000_000  # models without one state a very large number of tokens
_KNOWN = {
    "error": ("failed", "read their errors in the replies file and run the same command again"),
    "missing": ("have no reply", "add the missing replies"),
}
_TOO_LONG = "set dialogues.too_long: cut-left or a smaller generation.max_new_tokens"


def too_few(result: CheckResult) -> str:
    """Return the sentence for a check over fewer units than the thresholds require."""
    return (
        f"Only {counted(result.n, result.units)} {'was' if result.n == 1 else 'were'} measured, and "
        f"{result.min_samples:,} are required: measure more, or set "
        f"min_samples: {result.n} knowingly."
    )


def incomplete(share: Share, least: float) -> str:
    """Return the sentence for a variant that too few of the dialogues have a value of."""
    of = f"{share.answered:,} of {counted(share.dialogues, 'dialogues')}"
    told = f"{share.label} {share.did} {of} ({_percent(share.value)})"
    why, ways = _reasons(share)
    kept = math.floor(share.value * 100 + 1e-9) / 100
    if kept > 0:
        ways.append(f"set min_coverage: {kept:g} knowingly")
    advice = f" To judge it, {', or '.join(ways)}." if ways else ""
    return f"{told}, and {_percent(least)} is required{': ' if why else ''}{', '.join(why)}.{advice}"


def _reasons(share: Share) -> tuple[list[str], list[str]]:
    why, ways = [], []
    for reason, count in share.missing.items():
        if reason == "too long":
            known = share.context is not None and share.context < NO_CONTEXT_LIMIT
            context = f"the context of {share.context:,} tokens" if known else "the model's context"
            why.append(f"{count:,} {'is' if count == 1 else 'are'} longer than {context}")
            ways.append(_TOO_LONG)
        elif reason in _KNOWN:
            why.append(f"{count:,} {_KNOWN[reason][0]}")
            ways.append(_KNOWN[reason][1])
        else:
            why.append(f"{reason} ({count:,})")
    return why, ways


def not_measured(metric: str, of: str, *, why: str | None = None, others: Sequence[str] = ()) -> str:
    """Return the sentence for a metric without a value. ``of``: whose value, e.g. `` for merged``, or nothing.

    ``others``: the metrics of its family that have one; a pass measures what the device lets it.
    """
    if why:
        return f"{metric} was not measured{of}: {why.rstrip('.')}."
    family = metric.split(".")[0]
    if others and family in pass_names():
        return f"{metric} was not measured{of}. Use what was ({listed(others)}), or remove this check."
    where = f"the pass '{family}' to 'passes'" if family in pass_names() else "it to 'metrics'"
    return f"{metric} was not measured{of}. Add {where} in the run's config, or remove this check."


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"
