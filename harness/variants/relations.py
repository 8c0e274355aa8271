"""How variants relate: which one others are compared with, and which base or adapter one was made from."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.errors import InputError, did_you_mean
from harness.variants.digests import is_adapter, is_model, is_present
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
    found = {variant.name: _counterpart(variant, variants) for variant in variants}
    return tuple(
        FidelityPair(variant=n, against=other.name) for n, other in found.items() if isinstance(other, Variant)
    )


def unpaired(variants: Sequence[Variant], wanted: tuple[FidelityPair, ...] | None) -> dict[str, str]:
    """Return, by variant name, why it is in no pair although it could be; all variants if there is no pair at all."""
    if wanted is not None:
        names = () if wanted else tuple(variant.name for variant in variants)
        return dict.fromkeys(names, "the config names no pair that can be compared")
    found = {variant.name: _counterpart(variant, variants) for variant in variants}
    if not any(found.values()):
        return dict.fromkeys(found, "no variant of the run is a merged model or a quantised base")
    return {name: why for name, why in found.items() if isinstance(why, str)}


def adapter_of(merged: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the adapter that a merged variant came from, or None if unknown."""
    found = _source(merged, variants)
    return found if isinstance(found, Variant) else None


def base_of(variant: Variant, variants: Sequence[Variant]) -> Variant | None:
    """Return the base of an adapter or merged variant; None if unknown, or if ``variant`` is a base."""
    bases = [other for other in variants if other.kind == "base"]
    if variant.kind == "adapter":
        return next((base for base in bases if base.model == variant.model), None) or variant.model_copy(
            update={"name": "its base", "kind": "base", "adapter": None}
        )
    if variant.kind == "base":
        return None
    known = [base for base in bases if base.base_digest or base.model_digest]
    if variant.base_digest is not None and known:  # bases listed by hand state no digest
        return next((base for base in known if _is_base(base, variant.base_digest)), None)
    return bases[0] if len({base.model for base in bases}) == 1 else None


def _counterpart(variant: Variant, variants: Sequence[Variant]) -> Variant | str | None:
    """Return what a variant is compared with by default, why it is not known, or None if it is not compared."""
    if variant.kind == "merged":
        return _source(variant, variants)
    if variant.kind == "adapter" or variant.quantization == "none":
        return None
    plain = (v for v in variants if v.kind == "base" and v.quantization == "none" and v.model == variant.model)
    return next(plain, None) or "the same base unquantised is not among the variants"


def _source(merged: Variant, variants: Sequence[Variant]) -> Variant | str:
    """Return the adapter that a merged variant came from, or why it is not known."""
    adapters = [variant for variant in variants if variant.kind == "adapter"]
    if not adapters:
        return "the adapter it was merged from is not among the variants"
    if merged.adapter_digest is None:
        several = "there is no record of the adapter it was merged from; name the pair in the config's fidelity"
        return adapters[0] if len(adapters) == 1 else several
    same = (variant for variant in adapters if _is_adapter(variant, merged.adapter_digest))
    return next(same, None) or "none of the adapters among the variants is the one it was merged from, by their digests"


def _is_base(base: Variant, digest: str) -> bool:
    """Compare with what is recorded of a base, or with its files if that has another form."""
    recorded = [one for one in (base.base_digest, base.model_digest) if one is not None]
    return digest in recorded or (not _has_form_of(digest, recorded) and is_model(base.model, digest))


def _is_adapter(adapter: Variant, digest: str) -> bool:
    """Compare with what is recorded of an adapter, or with its files: an adapter listed by hand has no record."""
    recorded = [] if adapter.adapter_digest is None else [adapter.adapter_digest]
    return digest in recorded or (not _has_form_of(digest, recorded) and is_adapter(str(adapter.adapter), digest))


def _has_form_of(digest: str, recorded: Iterable[str]) -> bool:
    return any(is_present(one) == is_present(digest) for one in recorded)
