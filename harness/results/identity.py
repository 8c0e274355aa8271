"""Whether a served variant is the local one that it claims to be, or rather another one of the run.

A server in other kernels, another precision or with other batches gives other replies where two tokens are nearly as
probable (a near-tie). Replies that part at a token that the local model is sure of come from other weights, another
prompt or other decoding. So does a reply that another variant of the run gives, where that is no accident.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from harness.stats.proportions import mcnemar_exact
from harness.store.schema import IdentityRow, LikenessRow, RunManifest

BY_ACCIDENT = 0.01

if TYPE_CHECKING:
    from harness.results.fidelity import Fidelity


def claims(manifest: RunManifest) -> dict[str, str]:
    """Map each variant that claims to be another one of the run (``same_as``) to that."""
    names = [str(one.get("name")) for one in manifest.variants]
    stated = {str(one.get("name")): one.get("same_as") for one in manifest.variants}
    return {name: str(other) for name, other in stated.items() if other in names and other != name}


def identities(fidelity: Fidelity, others: Mapping[str, tuple[str, ...]]) -> tuple[IdentityRow, ...]:
    """Return what the replies say about each claim, where there are replies of both.

    ``others`` has the variants that each is compared with, the claimed one among them.
    """
    found = []
    for variant, claimed in fidelity.claims.items():
        alike = {name: _likeness(fidelity, variant, name) for name in others[variant]}
        likenesses = {name: one for name, one in alike.items() if one is not None}
        if claimed in likenesses:
            found.append(_identity(fidelity, variant, claimed, likenesses))
    return tuple(found)


def _identity(fidelity: Fidelity, variant: str, claimed: str, likenesses: Mapping[str, LikenessRow]) -> IdentityRow:
    sure = [fidelity.surely(variant, claimed, name) for name in _differing(fidelity, variant, claimed)]
    nearer = _nearer(fidelity, variant, claimed, likenesses)
    other = True in sure or nearer is not None
    return IdentityRow(
        variant=variant,
        claimed=claimed,
        finding="other" if other else "same" if not sure else "unknown" if None in sure else "near-ties",
        replies=likenesses[claimed].replies,
        sure=sure.count(True),
        near_ties=sure.count(False),
        unknown=sure.count(None),
        nearer=nearer,
        likenesses=dict(likenesses),
    )


def _nearer(fidelity: Fidelity, variant: str, claimed: str, likenesses: Mapping[str, LikenessRow]) -> str | None:
    """Return the variant that is more like ``variant`` than the claimed one is, by replies or else by likelihoods.

    By replies it is the one whose are most often identical, if they are more often so than by accident.
    """
    nearest = max(likenesses, key=lambda name: (likenesses[name].identical, likenesses[name].shared, name == claimed))
    from_claimed = set(_differing(fidelity, variant, claimed))
    from_nearest = set(_differing(fidelity, variant, nearest))
    chance = mcnemar_exact(len(from_claimed - from_nearest), len(from_nearest - from_claimed))
    return nearest if chance < BY_ACCIDENT else _nearer_by_likelihood(fidelity, variant, claimed, list(likenesses))


def _nearer_by_likelihood(fidelity: Fidelity, variant: str, claimed: str, names: Sequence[str]) -> str | None:
    """Return a variant whose nll is less than half as far off, and nearer in more dialogues than by accident.

    That finds an adapter which was left out and changes few greedy replies. Rounding alone leaves variants that compute
    almost the same about equally far off.
    """
    off = {
        name: [None if pair is None else abs(pair[0]) for pair in fidelity.nll_differences(variant, name)]
        for name in names
    }
    found: dict[str, float] = {}
    for name in names:
        both = [
            (one, other)
            for one, other in zip(off[name], off[claimed], strict=True)
            if one is not None and other is not None
        ]
        nearer, farther = sum(one < other for one, other in both), sum(one > other for one, other in both)
        total, of_claimed = math.fsum(one for one, _ in both), math.fsum(other for _, other in both)
        if 2 * total < of_claimed and mcnemar_exact(nearer, farther) < BY_ACCIDENT:
            found[name] = total
    return min(found, key=lambda name: found[name], default=None)


def _differing(fidelity: Fidelity, variant: str, other: str) -> list[str]:
    mine, theirs = fidelity.replies(variant), fidelity.replies(other)
    return [name for name in mine if name in theirs and mine[name].text != theirs[name].text]


def _likeness(fidelity: Fidelity, variant: str, other: str) -> LikenessRow | None:
    mine, theirs = fidelity.replies(variant), fidelity.replies(other)
    both = [name for name in mine if name in theirs]
    if not both:
        return None
    differing = _differing(fidelity, variant, other)
    shares = [_shared(mine[name].tokens, theirs[name].tokens) for name in differing]
    sums = [pair for pair in fidelity.nll_differences(variant, other) if pair is not None]
    tokens = math.fsum(count for _, count in sums)
    identical = len(both) - len(differing)
    return LikenessRow(
        replies=len(both),
        identical=identical,
        shared=(identical + math.fsum(shares)) / len(both),
        nll_difference=math.fsum(nll for nll, _ in sums) / tokens if tokens else None,
    )


def _shared(one: tuple[object, ...], other: tuple[object, ...]) -> float:
    """Return the share of the longer reply's tokens before the first difference."""
    pairs = enumerate(zip(one, other, strict=False))
    first = next((place for place, (mine, theirs) in pairs if mine != theirs), min(len(one), len(other)))
    return first / max(len(one), len(other), 1)
