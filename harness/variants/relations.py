"""Which variant belongs to which: what differences are taken against, and whose weights another one has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.errors import InputError, did_you_mean
from harness.variants.model import Variant
from harness.yamlfile import Strict


class FidelityPair(Strict):
    """``variant`` is held against ``against``, e.g. merged against adapter."""

    variant: str
    against: str


def refuse_unknown_pairs(pairs: Iterable[FidelityPair], names: Sequence[str]) -> None:
    """Raise InputError where a pair names a variant that is not there."""
    for pair in pairs:
        for name in (pair.variant, pair.against):
            if name not in names:
                raise InputError(
                    f"fidelity: there is no variant '{name}'. There are: {', '.join(names)}.{did_you_mean(name, names)}"
                )


def reference_variant(wanted: str | None, variants: Sequence[Variant]) -> str:
    """Return what differences are taken against: the variant that is wanted, else the first base, else the first."""
    names = [variant.name for variant in variants]
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"reference_variant: no variant is named '{wanted}'.{did_you_mean(wanted, names)}")
        return wanted
    return next((variant.name for variant in variants if variant.kind == "base"), names[0])


def pairs(variants: Sequence[Variant], wanted: tuple[FidelityPair, ...] | None) -> tuple[FidelityPair, ...]:
    """Return which variants are compared; raise InputError where a pair names one that is not there.

    By default: every merged model against the adapter it came from (told by digest, or the only one there is), and
    every quantised base against the same base unquantised.
    """
    if wanted is not None:
        refuse_unknown_pairs(wanted, [variant.name for variant in variants])
        return wanted
    found = []
    for variant in variants:
        against = adapter_of(variant, variants) if variant.kind == "merged" else _unquantised(variant, variants)
        if against is not None:
            found.append(FidelityPair(variant=variant.name, against=against.name))
    return tuple(found)


def adapter_of(merged: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the adapter that a merged variant came from, where the run knows it."""
    adapters = [variant for variant in variants if variant.kind == "adapter"]
    if merged.adapter_digest is not None:
        adapters = [variant for variant in adapters if variant.adapter_digest == merged.adapter_digest]
    elif len(adapters) > 1:
        return None  # which one it came from is not known; the config can say so
    return adapters[0] if adapters else None


def base_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the base of an adapter or merged variant, where this run knows which one that is; None for a base."""
    bases = [other for other in variants if other.kind == "base"]
    if variant.kind == "adapter":
        return next((base for base in bases if base.model == variant.model), None) or variant.model_copy(
            update={"name": "its base", "kind": "base", "adapter": None}
        )
    if variant.kind == "base":
        return None
    if variant.base_digest is not None:
        same = (base for base in bases if variant.base_digest in (base.base_digest, base.model_digest))
        return next(same, None)
    return bases[0] if len({base.model for base in bases}) == 1 else None


def _unquantised(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    if variant.kind != "base" or variant.quantization == "none":
        return None
    plain = (v for v in variants if v.kind == "base" and v.quantization == "none" and v.model == variant.model)
    return next(plain, None)
