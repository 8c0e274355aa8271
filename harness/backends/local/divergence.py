"""How much two models' next-token distributions differ at every position of the references."""

from __future__ import annotations

import torch

from harness.backends.base import Divergence, NotComparableError, ScoringRequest
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.backends.local.scoring import (
    CausalForward,
    chunks,
    reference_positions,
    reference_states,
    vocabulary,
)
from harness.backends.local.tokenizers import same_ids
from harness.variants.model import Variant


class Comparison:
    """Measures batches under two variants that a pool holds at once."""

    def __init__(self, pool: SharedPool, variant: Variant, against: Variant) -> None:
        self._pool = pool
        self._variant = variant
        self._against = against
        self._forwards: dict[str, CausalForward] = {}

    @torch.inference_mode()
    def measure(self, batch: list[ScoringRequest]) -> list[Divergence]:
        """Return the divergence of each request, in one transfer to the host."""
        with self._pool.use(self._variant) as loaded:
            where = reference_positions(batch, loaded.device)
            ours = reference_states(self._forward(loaded), batch, where)
        with self._pool.use(self._against) as loaded:
            theirs = reference_states(self._forward(loaded), batch, where)
        parts = []
        for chunk in chunks(len(where.targets), 3 * vocabulary(self._forwards[self._variant.name])):
            log_p = self._log_softmax(self._variant, ours[chunk])
            log_q = self._log_softmax(self._against, theirs[chunk])
            parts.append(differences(log_p, log_q, where.targets[chunk]))
        table = torch.cat(parts, dim=1).to("cpu", torch.float64)
        parted = torch.split(table, list(where.counts), dim=1)
        return [_divergence(request.id, columns) for request, columns in zip(batch, parted, strict=True)]

    def _forward(self, loaded: LoadedModel) -> CausalForward:
        name = loaded.variant.name
        if name not in self._forwards:
            self._forwards[name] = CausalForward(loaded.model)
        return self._forwards[name]

    def _log_softmax(self, variant: Variant, states: torch.Tensor) -> torch.Tensor:
        with self._pool.use(variant):  # a head may carry an adapter too
            return self._forwards[variant.name].logits(states).float().log_softmax(dim=-1)


def differences(log_p: torch.Tensor, log_q: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return [5, positions] for log-probabilities of the variant (p) and of what it is compared with (q).

    The rows: KL(q ‖ p), whether the argmax is the same, |Δ log p| of the target, and both models' −log p of it.
    """
    # Where q is zero the term is zero, however small p is.
    kl = torch.where(log_q == float("-inf"), 0.0, log_q.exp() * (log_q - log_p)).sum(dim=-1)
    agree = log_p.argmax(dim=-1) == log_q.argmax(dim=-1)
    ours = log_p.gather(1, targets[:, None])[:, 0]
    theirs = log_q.gather(1, targets[:, None])[:, 0]
    # Rounding may make the KL of two equal distributions slightly negative.
    return torch.stack([kl.clamp(min=0.0), agree.float(), (ours - theirs).abs(), -ours, -theirs])


def refuse_other_tokens(ours: LoadedModel, theirs: LoadedModel) -> None:
    """Raise NotComparableError if the two models' distributions cover different tokens."""
    pair = f"'{ours.variant.name}' and '{theirs.variant.name}'"
    if ours.tokenizer is not theirs.tokenizer and not same_ids(ours.tokenizer, theirs.tokenizer):
        raise NotComparableError(f"{pair} have different tokenizers, so their distributions cannot be compared.")
    sizes = [loaded.model.config.get_text_config().vocab_size for loaded in (ours, theirs)]
    if sizes[0] != sizes[1]:
        raise NotComparableError(
            f"{pair} have vocabularies of {sizes[0]} and {sizes[1]} tokens, so they cannot be compared."
        )


def _divergence(name: str, columns: torch.Tensor) -> Divergence:
    return Divergence(
        id=name,
        kl=tuple(columns[0].tolist()),
        agree=int(columns[1].sum().item()),
        max_abs_dlogp=float(columns[2].max()),
        nll=float(columns[3].sum()),
        nll_against=float(columns[4].sum()),
    )
