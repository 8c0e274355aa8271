"""Prompt and reference through the model once: the forward that scores a reference also begins the reply.

Requests go in by groups, and which ones go together never depends on what is finished or on how much memory is free: a
request's neighbours change its likelihood in the seventh digit, and a run that was interrupted must end with the
numbers of one that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.backends.base import Request
from harness.backends.local.batches import batches, joint_rows, joint_tokens, longest_first
from harness.backends.local.scoring import ScoringRequest

Tell = Callable[[list[ScoringRequest], list[float]], None]


@dataclass(frozen=True)
class JointRequest:
    """A prompt, and prompt and reference as they are scored, which begin with the prompt's tokens."""

    prompt: Request
    scored: ScoringRequest
    answered: bool = False  # its reply is known already, so it takes no slot

    def __len__(self) -> int:
        return max(len(self.prompt), len(self.scored) - 1)

    @property
    def ids(self) -> tuple[int, ...]:
        """What goes through the model: all but the last token, which predicts nothing that is scored."""
        return max(self.prompt.ids, self.scored.ids[:-1], key=len)


@dataclass
class JointWork:
    """The groups still to go in, longest first.

    ``tell`` is given each group's likelihoods (−log p in nats, perhaps no number) before any of its replies is made;
    ``halved`` the rows of a group that did not fit into memory, and how many go in now.
    """

    groups: deque[list[JointRequest]] = field(default_factory=deque)
    tell: Tell = lambda scored, nlls: None
    halved: Callable[[int, int], None] = lambda rows, rows_now: None

    def slots_needed(self) -> int:
        """Return how many slots the first group wants."""
        return sum(not request.answered for request in self.groups[0])

    def prompts(self) -> list[Request]:
        """Return the prompts that have no reply yet."""
        return [request.prompt for group in self.groups for request in group if not request.answered]

    def give_up(self) -> list[Request]:
        """Let all references go; return the prompts that have no reply yet, to be put in alone."""
        prompts = self.prompts()
        self.groups.clear()
        return prompts

    def shrink(self) -> list[Request]:
        """Make the groups that are left smaller, the first having been too large for memory.

        Where that was one request by itself, its reference is let go: return its prompt, if it has no reply yet.
        """
        first = self.groups[0]
        if len(first) == 1:
            self.groups.popleft()
            return [request.prompt for request in first if not request.answered]
        rows = len(first) // 2
        budget = rows * len(first[0])
        self.groups = deque(smaller for group in self.groups for smaller in batches(group, budget))
        self.halved(len(first), rows)
        return []


def joint_groups(
    requests: Sequence[JointRequest], model: Any, device: str, columns: int, *, limit: int | None
) -> list[list[JointRequest]]:
    """Return all of a run's joint requests, finished ones too, in the groups in which they go in.

    ``columns`` is the width of the slots; ``limit`` bounds tokens, as a config's ``batch_tokens`` does.
    """
    rows = joint_rows(model, device, columns, limit=limit)
    return list(batches(longest_first(requests), joint_tokens(model, device, limit=limit), most_rows=rows))
