"""Teacher-forced log-likelihoods of references: logits in fp32, only at reference positions, in chunks.

A causal model is run in two halves, so that logits are computed only where they are needed. Some models transform their
logits after the head (soft caps, scales), so the halves are compared with the whole model on a few tokens instead of
relying on a list of architectures; if they differ, the whole model is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from harness.backends.base import Event, ScoringRequest
from harness.backends.local.batches import (
    LOGIT_CHUNK_BYTES,
    batches,
    longest_first,
    scoring_tokens,
    usual_scoring_tokens,
)
from harness.backends.local.device import is_out_of_memory, release_cached_memory
from harness.backends.local.pool import LoadedModel
from harness.backends.local.rope import batch_depends_on_length, forget_longer_rows
from harness.backends.local.spread import device_of
from harness.backends.local.transformers_types import CausalLM
from harness.backends.ranks import WHOLE, Share
from harness.progress import EventKind

Found = TypeVar("Found")


@dataclass(frozen=True)
class ReferencePositions:
    """The positions of a batch's references: row and column of the state that predicts each token, and the tokens."""

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
def reference_states(
    forward: CausalForward, batch: Sequence[ScoringRequest], where: ReferencePositions
) -> torch.Tensor:
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
    """Return the number of logits per position."""
    return int(forward.model.config.get_text_config().vocab_size)


def in_batches(
    loaded: LoadedModel,
    requests: Sequence[ScoringRequest],
    measure: Callable[[list[ScoringRequest]], Sequence[Found]],
    *,
    work: str,
    event: Event,
    batch_tokens: int | None = None,
    models: int = 1,
    share: Share = WHOLE,
) -> Iterator[tuple[ScoringRequest, Found | None]]:
    """Yield every request of the ``share`` that is not done with its result, or None if it does not fit even alone.

    Batches are formed from all requests, finished ones too: a dialogue's neighbours change its sums in the seventh
    digit, and an interrupted run must end with the same numbers as an uninterrupted one.
    """
    waiting = longest_first(requests)
    alone = 1 if batch_depends_on_length(loaded.model) else None
    if share.of > 1:  # by the usual batches: free memory may differ between the processes, their shares must not
        usual = usual_scoring_tokens(loaded.device, limit=batch_tokens) // models
        waiting = share.mark(batches(waiting, max(1, usual), most_rows=alone))
    budget = max(1, scoring_tokens(loaded.model, loaded.device, limit=batch_tokens) // models)
    while waiting:
        batch = next(batches(waiting, budget, most_rows=alone))
        results: Sequence[Found | None] | None = None
        try:
            results = [None] * len(batch) if all(request.done for request in batch) else measure(batch)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
        if results is None:
            # Outside the handler, because its error keeps the tensors that did not fit alive.
            release_cached_memory(loaded.device)
            if len(batch) > 1:
                rows = len(batch) // 2
                budget = rows * len(batch[0])
                detail = {"pass": work, "variant": loaded.variant.name, "rows": len(batch), "rows_now": rows}
                event(EventKind.OUT_OF_MEMORY, detail)
                continue
            results = [None]
        waiting = waiting[len(batch) :]
        yield from ((request, found) for request, found in zip(batch, results, strict=True) if not request.done)


PROBE_TOKENS = 5


class CausalForward:
    """Computes hidden states of a whole batch, then logits only at chosen positions."""

    def __init__(self, model: CausalLM) -> None:
        self.model = model
        self._body: Any = model.get_decoder() if hasattr(model, "get_decoder") else None
        self._head: Any = model.get_output_embeddings()
        self.splits = self._body is not None and self._head is not None and self._halves_equal_the_whole()

    def states(self, ids: torch.Tensor, **arguments: Any) -> torch.Tensor:
        """Return the input of ``logits`` for every position: hidden states, or logits if the model cannot be split.

        Rows are padded on the right and need no mask: in a causal model no token attends to later ones.
        """
        if "position_ids" not in arguments:  # whole rows, not a step
            forget_longer_rows(self.model)
        arguments.setdefault("use_cache", False)
        outputs = (self._body if self.splits else self.model)(input_ids=ids, **arguments)
        states: torch.Tensor = outputs.last_hidden_state if self.splits else outputs.logits
        return states.to(ids.device)

    def logits(self, states: torch.Tensor) -> torch.Tensor:
        """Return the logits [n, vocabulary] of the chosen positions' states [n, width], in the model's dtype.

        Like the states, they are on the first layer's device, also where the last layers are on another GPU.
        """
        if not self.splits:
            return states
        logits: torch.Tensor = self._head(states.to(device_of(self._head)))
        return logits.to(states.device)

    @torch.inference_mode()
    def _halves_equal_the_whole(self) -> bool:
        vocabulary = self.model.get_input_embeddings().weight.shape[0]
        device = self.model.get_input_embeddings().weight.device
        ids = (torch.arange(PROBE_TOKENS, device=device) * 7919 + 11).remainder(vocabulary)[None]
        whole = self.model(input_ids=ids, use_cache=False).logits.float()
        states = getattr(self._body(input_ids=ids, use_cache=False), "last_hidden_state", None)
        if states is None:  # what it calls its decoder is the whole model
            return False
        halves = self._head(states.to(device_of(self._head))).to(device).float()
        return whole.shape == halves.shape and torch.allclose(whole, halves, rtol=1e-3, atol=1e-3 * whole.std().item())


def left_padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the rows as one tensor [rows, longest], padded on the left, and its attention mask."""
    longest = max(len(row) for row in rows)
    ids = torch.tensor([[pad] * (longest - len(row)) + [*row] for row in rows])
    return ids, torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in rows])


def right_padded(rows: list[list[int]], device: str, width: int | None = None) -> torch.Tensor:
    """Return the rows as one tensor [rows, longest], padded on the right with token 0, which is never used."""
    longest = width or max(len(row) for row in rows)
    padded = torch.zeros((len(rows), longest), dtype=torch.long)
    for index, row in enumerate(rows):
        padded[index, : len(row)] = torch.tensor(row, dtype=torch.long)
    return padded.to(device, non_blocking=True)
