"""How variants relate: which one others are compared with, and which base or adapter one was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.errors import InputError, did_you_mean
from harness.variants.model import Variant
from harness.yamlfile import Strict


class FidelityPair(Strict):
    """``variant`` is compared with ``against``, e.g. merged with adapter."""

    variant: str
    against: str


def refuse_unknown_pairs(pairs: Iterable[FidelityPair], names: Sequence[str]) -> None:
    """Raise InputError if a pair names an unknown variant."""
    for pair in pairs:
        for name in (pair.variant, pair.against):
            if name not in names:
                raise InputError(
                    f"fidelity: there is no variant '{name}'. There are: {', '.join(names)}.{did_you_mean(name, names)}"
                )


def reference_variant(wanted: str | None, variants: Sequence[Variant]) -> str:
    """Return the name of the variant that others are compared with: ``wanted``, else the first base, else the first."""
    names = [variant.name for variant in variants]
    if wanted is not None:
        if wanted not in names:
            raise InputError(f"reference_variant: no variant is named '{wanted}'.{did_you_mean(wanted, names)}")
        return wanted
    return next((variant.name for variant in variants if variant.kind == "base"), names[0])


def pairs(variants: Sequence[Variant], wanted: tuple[FidelityPair, ...] | None) -> tuple[FidelityPair, ...]:
    """Return the pairs to compare; raise InputError if a pair names an unknown variant.

    By default, every merged model with the adapter it came from (matched by digest, or the only adapter), and every
    quantised base with the same base unquantised.
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
    """Return the adapter that a merged variant came from, or None if unknown."""
    adapters = [variant for variant in variants if variant.kind == "adapter"]
    if merged.adapter_digest is not None:
        adapters = [variant for variant in adapters if variant.adapter_digest == merged.adapter_digest]
    elif len(adapters) > 1:
        return None  # ambiguous; the config can name the pair
    return adapters[0] if adapters else None


def base_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the base of an adapter or merged variant; None if unknown, or if ``variant`` is a base."""
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
