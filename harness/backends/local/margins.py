"""How sure a model is of its next token: one position of each request, in one forward pass of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from harness.backends.base import Margin, ScoringRequest
from harness.backends.local.scoring import CausalForward, chunks, reference_positions, reference_states, vocabulary


@torch.inference_mode()
def margins(
    forward: CausalForward, batch: Sequence[ScoringRequest], chosen: Mapping[str, Sequence[int]], device: str
) -> list[Margin]:
    """Return the margins of a batch whose references are of one token, in nats, in one transfer to the host.

    ``chosen`` has, by request, the tokens that count as chosen: the most probable of them is taken.
    """
    states = reference_states(forward, batch, reference_positions(batch, device))
    rows = []
    for chunk in chunks(len(states), vocabulary(forward)):
        log_p = forward.logits(states[chunk]).float().log_softmax(dim=-1)
        best = log_p.topk(2, dim=-1).values
        taken = [row[list(chosen[request.id])].max() for row, request in zip(log_p, batch[chunk], strict=True)]
        rows.append(torch.stack([best[:, 0] - best[:, 1], best[:, 0] - torch.stack(taken)], dim=1))
    on_host = torch.cat(rows).to("cpu", torch.float64).tolist()
    return [Margin(request.id, *found) for request, found in zip(batch, on_host, strict=True)]
