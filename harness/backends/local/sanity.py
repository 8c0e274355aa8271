"""Sanity checks of the variants: made within seconds before any long pass, each with a row on the report.

They catch mistakes that have silently invalidated real evaluations: an adapter that was never applied or was applied
to the wrong base, a merge that kept its LoRA tensors, weights with NaN, a truncated file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.backends.base import Check
from harness.backends.local.loading import load_tokenizer, text_settings
from harness.backends.local.pool import SharedPool
from harness.backends.local.support import refuse_unsupported_model
from harness.backends.local.tokenizers import same_ids, without_unused_padding
from harness.errors import InputError
from harness.variants.artifacts import (
    AdapterArtifact,
    ModelArtifact,
    check_adapter_folder,
    check_model_folder,
    has_tokenizer,
    resolve_model,
)
from harness.variants.digests import is_adapter, is_model
from harness.variants.model import Variant
from harness.variants.relations import base_of
from harness.variants.weights import first_changed_weight, first_not_finite


@dataclass
class _Rows:
    """The checks made so far. A mismatch raises unless it was allowed."""

    allow_base_mismatch: bool
    rows: list[Check] = field(default_factory=list)

    def passed(self, name: str, variant: Variant, detail: str) -> None:
        self.rows.append(Check(name=name, variant=variant.name, ok=True, detail=detail))

    def mismatch(self, name: str, variant: Variant, detail: str) -> None:
        if not self.allow_base_mismatch:
            raise InputError(
                f"Variant '{variant.name}': {detail} Use the base it was made from, or --allow-base-mismatch."
            )
        self.rows.append(Check(name=name, variant=variant.name, ok=False, detail=f"{detail} Allowed."))


def check_variants(
    variants: Sequence[Variant],
    pool: SharedPool | None = None,
    *,
    allow_base_mismatch: bool = False,
) -> tuple[Check, ...]:
    """Return one row per check; raise InputError at the first that fails.

    With ``allow_base_mismatch``, a base, tokenizer or digest that differs from the recorded one gives a row with
    ``ok=False``. Without a ``pool`` no model is loaded and the adapters' effect on the logits is not checked.
    """
    made = _Rows(allow_base_mismatch)
    artifacts: dict[str, ModelArtifact] = {}
    for variant in variants:
        refuse_unsupported_model(variant, pool.device if pool else "cpu")
    for variant in variants:
        if variant.model not in artifacts:
            artifacts[variant.model] = check_model_folder(resolve_model(variant.model))
            _finite(made, variant, artifacts[variant.model].files, variant.model)
        model = artifacts[variant.model]
        made.passed("files", variant, f"{len(model.tensors)} tensors, {model.nbytes / 2**20:.0f} MiB")
        _leftover_lora(made, variant, model)
        _recorded_weights(made, variant, model)
        _tokenizer_fits(made, variant, model)
        if variant.kind == "adapter":
            _adapter(made, variant, pool)
    _tokenizers_agree(made, variants)
    _merges_differ_from_their_base(made, variants, artifacts)
    return tuple(made.rows)


def _finite(made: _Rows, variant: Variant, files: tuple[Path, ...], what: str) -> None:
    found = first_not_finite(files)
    if found is not None:
        raise InputError(
            f"{found[0]} has NaN or Inf in tensor '{found[1]}', so {what} cannot be measured. Save it again."
        )
    made.passed("finite weights", variant, f"{len(files)} file{'s' if len(files) != 1 else ''}")


def _leftover_lora(made: _Rows, variant: Variant, model: ModelArtifact) -> None:
    left = [name for name in model.tensors if ".lora_" in name or ".base_layer." in name]
    if left:
        raise InputError(
            f"Variant '{variant.name}': {variant.model} still has LoRA tensors, first '{left[0]}', which would be "
            "ignored on loading. Merge the adapter before saving."
        )
    if variant.kind == "merged":
        made.passed("no LoRA tensors left", variant, f"{len(model.tensors)} tensors")


def _recorded_weights(made: _Rows, variant: Variant, model: ModelArtifact) -> None:
    """Check that the weights are those recorded when the variants were made."""
    recorded = variant.model_digest if variant.kind == "merged" else variant.base_digest or variant.model_digest
    if recorded is None:
        return
    if is_model(model.path, recorded):
        made.passed("recorded weights", variant, f"digest {recorded[:12]}")
    elif variant.kind == "adapter":
        made.mismatch(
            "recorded weights", variant, f"{variant.model} is not the base its adapter was trained on (digest)."
        )
    else:
        made.mismatch("recorded weights", variant, f"{variant.model} is not what was recorded (digest).")


def _adapter(made: _Rows, variant: Variant, pool: SharedPool | None) -> None:
    from harness.backends.local.adapter_checks import refuse_other_modules, refuse_silent_adapter, refuse_zero_adapter

    adapter = check_adapter_folder(str(variant.adapter))
    _finite(made, variant, (adapter.weights,), str(variant.adapter))
    made.passed("adapter is not zero", variant, refuse_zero_adapter(variant, adapter))
    made.passed("adapter fits its base", variant, refuse_other_modules(variant, adapter))
    _recorded_adapter(made, variant, adapter)
    if pool is not None:
        made.passed("adapter changes the logits", variant, refuse_silent_adapter(variant, adapter, pool))
        apart = pool.why_apart(variant)
        found = f"{apart}, so it has weights of its own" if apart else "to the last bit, so they share weights"
        made.passed("adapter leaves its base as it is", variant, found)


def _recorded_adapter(made: _Rows, variant: Variant, adapter: AdapterArtifact) -> None:
    if variant.adapter_digest is None:
        return
    if not is_adapter(adapter.path, variant.adapter_digest):
        made.mismatch("recorded adapter", variant, f"{variant.adapter} is not what was recorded (digest).")
    else:
        made.passed("recorded adapter", variant, f"digest {variant.adapter_digest[:12]}")


def _tokenizer_fits(made: _Rows, variant: Variant, model: ModelArtifact) -> None:
    """Check that every token that can be in a text has a row in the embedding."""
    rows = text_settings(variant.model).vocab_size
    tokenizer = without_unused_padding(load_tokenizer(str(model.path)), rows)
    highest = max(tokenizer.get_vocab().values())
    if highest >= rows:
        raise InputError(
            f"Variant '{variant.name}': the tokenizer of {variant.model} has token {highest}, but the model has only "
            f"{rows} embeddings. Use the tokenizer that belongs to this model."
        )
    made.passed("tokenizer fits the model", variant, f"{highest + 1} tokens, {rows} embeddings")


def _tokenizers_agree(made: _Rows, variants: Sequence[Variant]) -> None:
    """Check that the tokenizers of adapters (if saved with one) and merged models equal their base's."""
    for variant, base in ((variant, base_of(variant, variants)) for variant in variants):
        if base is None:
            continue
        own = str(variant.adapter) if variant.kind == "adapter" else variant.model
        if own == base.model or not has_tokenizer(own):
            continue
        mine: Any = load_tokenizer(own)
        theirs: Any = load_tokenizer(base.model)
        if same_ids(mine, theirs):
            made.passed("tokenizers agree", variant, f"same ids as '{base.name}' for every text")
        else:
            made.mismatch(
                "tokenizers agree",
                variant,
                f"its tokenizer in {own} gives other ids than that of '{base.name}' ({len(mine):,} and {len(theirs):,} "
                "tokens).",
            )


def _merges_differ_from_their_base(
    made: _Rows, variants: Sequence[Variant], artifacts: Mapping[str, ModelArtifact]
) -> None:
    """Compare weight by weight: a base saved again in other shards or another dtype is not a merge."""
    for variant in variants:
        base = base_of(variant, variants)
        if variant.kind != "merged" or base is None:
            continue
        changed = first_changed_weight(artifacts[variant.model], artifacts[base.model])
        if changed is None:
            raise InputError(
                f"Variant '{variant.name}': every weight of {variant.model} equals that of the base '{base.name}'. "
                "The adapter was not merged."
            )
        made.passed("merge changed the weights", variant, f"first '{changed}' differs from '{base.name}'")
