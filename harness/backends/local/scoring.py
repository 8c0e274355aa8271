"""Log-likelihoods of references, teacher-forced: logits in fp32, at reference positions alone, in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from harness.backends.local.batches import LOGIT_CHUNK_BYTES
from harness.backends.local.forward import CausalForward, right_padded


@dataclass(frozen=True)
class ScoringRequest:
    """Token ids of prompt and reference; the reference begins at ``context`` (at least 1)."""

    id: str
    ids: tuple[int, ...]
    context: int

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def reference(self) -> tuple[int, ...]:
        return self.ids[self.context :]


@dataclass(frozen=True)
class ReferencePositions:
    """Where a batch's references are: row and column of the state that predicts each token, and the tokens."""

    rows: torch.Tensor
    columns: torch.Tensor
    targets: torch.Tensor
    counts: tuple[int, ...]  # reference tokens of each request


def reference_positions(batch: Sequence[ScoringRequest], device: str) -> ReferencePositions:
    """Return the positions of all references of a batch, one request after another."""
    counts = tuple(len(request.ids) - request.context for request in batch)
    rows = torch.repeat_interleave(torch.arange(len(batch)), torch.tensor(counts))
    columns = torch.cat([torch.arange(request.context - 1, len(request.ids) - 1) for request in batch])
    targets = torch.tensor([token for request in batch for token in request.reference], dtype=torch.long)
    return ReferencePositions(rows.to(device), columns.to(device), targets.to(device), counts)


@torch.inference_mode()
def reference_states(forward: CausalForward, batch: Sequence[ScoringRequest], where: ReferencePositions) -> Any:
    """Return the states [reference tokens, width] that predict every reference token of the batch."""
    # The last token predicts nothing that is scored.
    ids = right_padded([list(request.ids[:-1]) for request in batch], str(where.rows.device))
    return forward.states(ids)[where.rows, where.columns]


@torch.inference_mode()
def negative_log_likelihoods(forward: CausalForward, batch: Sequence[ScoringRequest], device: str) -> list[float]:
    """Return each request's −log p(reference | prompt) in nats, summed in double precision."""
    where = reference_positions(batch, device)
    return summed_losses(forward, reference_states(forward, batch, where), where)


def summed_losses(forward: CausalForward, states: torch.Tensor, where: ReferencePositions) -> list[float]:
    """Return each request's −log p in nats from the states [reference tokens, width] that predict its reference."""
    losses = [
        torch.nn.functional.cross_entropy(forward.logits(states[chunk]).float(), where.targets[chunk], reduction="none")
        for chunk in chunks(len(states), vocabulary(forward))
    ]
    on_host = torch.cat(losses).to("cpu", torch.float64)  # the batch's only transfer
    return [float(part.sum()) for part in torch.split(on_host, list(where.counts))]


def chunks(positions: int, vocabulary_size: int) -> Iterator[slice]:
    """Yield slices of positions whose fp32 logits stay within ``LOGIT_CHUNK_BYTES``."""
    size = max(1, LOGIT_CHUNK_BYTES // (4 * vocabulary_size))
    for start in range(0, positions, size):
        yield slice(start, min(start + size, positions))


def vocabulary(forward: CausalForward) -> int:
    """Return how many logits a position has."""
    return int(forward.model.config.get_text_config().vocab_size)
