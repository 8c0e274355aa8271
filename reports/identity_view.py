"""Whether a server serves what it claims to: one sentence a served variant, and what it is based on."""

from __future__ import annotations

from harness.store.schema import IdentityRow
from reports.numbers import plain
from reports.view import RunView


def identity_sentences(view: RunView) -> tuple[str, ...]:
    """Return one sentence for each variant that claims to be another one."""
    return tuple(map(sentence, view.summary.identities))


def identity_rows(view: RunView) -> tuple[tuple[str, ...], ...]:
    """Return how alike each of these variants is to every local one: pair, identical replies, shared part, nll."""
    rows = []
    for one in view.summary.identities:
        for name, found in one.likenesses.items():
            claimed = f"{name} (claimed)" if name == one.claimed else name
            nll = "not measured" if found.nll_difference is None else plain(found.nll_difference, 6)
            identical = f"{found.identical} of {found.replies}"
            rows.append((one.variant, claimed, identical, _percent(found.shared), nll))
    return tuple(rows)


def sentence(one: IdentityRow) -> str:
    """Return what was found of one claim."""
    total, differ = one.replies, one.sure + one.near_ties + one.unknown
    nearer = "" if one.nearer is None else _nearer(one, one.nearer)
    if one.finding == "same":
        return f"{one.variant} serves {one.claimed}: all {total} replies are identical."
    if one.finding == "near-ties":
        return (
            f"{one.variant} differs from {one.claimed} at near-ties only, as other kernels or half precision do: "
            f"{differ} of {total} replies, none at a token that {one.claimed} is sure of."
        )
    if one.finding == "unknown":
        return (
            f"{one.variant} may not be {one.claimed}: {_percent(differ / total)} of replies differ; whether at tokens "
            f"that {one.claimed} is sure of was not measured{nearer}."
        )
    surely = f", {_percent(one.sure / total)} at tokens that {one.claimed} is sure of" if one.unknown < differ else ""
    return (
        f"{one.variant} serves something else than {one.claimed}: {_percent(differ / total)} of replies differ{surely}"
        f"{nearer or '; no other variant of this run is nearer'}."
    )


def _nearer(one: IdentityRow, name: str) -> str:
    found, claimed = one.likenesses[name], one.likenesses[one.claimed]
    nearer = f"; {name} is nearer, with {found.identical} of {found.replies} replies identical"
    if found.nll_difference is None or claimed.nll_difference is None:
        return nearer
    off = (plain(abs(each.nll_difference or 0.0), 4) for each in (found, claimed))
    return f"{nearer} and an nll that is off by {' instead of '.join(off)}"


def _percent(share: float) -> str:
    return f"{plain(share * 100, 0 if share * 100 >= 1 or share == 0 else 1)}\u00a0%"
