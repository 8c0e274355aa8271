"""Joint prefill of prompt and reference: the forward pass that scores a reference also begins the reply.

Requests are grouped independently of what is finished and of how much memory is free: a request's neighbours change
its likelihood in the seventh digit, and an interrupted run must end with the same numbers as an uninterrupted one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from harness.backends.base import ReplyRequest, ScoringRequest
from harness.backends.local.batches import batches, joint_rows, joint_tokens, longest_first
from harness.backends.local.transformers_types import CausalLM


@dataclass(frozen=True)
class JointRequest:
    """A prompt, and the scored tokens of prompt and reference, which begin with the prompt's tokens.

    If its reply is already done, it takes no slot.
    """

    prompt: ReplyRequest
    scored: ScoringRequest

    def __len__(self) -> int:
        return max(len(self.prompt), len(self.scored) - 1)

    @property
    def ids(self) -> tuple[int, ...]:
        """The model's input: all but the last token, which predicts nothing that is scored."""
        return max(self.prompt.ids, self.scored.ids[:-1], key=len)


@dataclass
class JointWork:
    """The groups still to be prefilled, longest first.

    ``halved`` is called with the rows of a group that did not fit into memory, and the rows tried next.
    """

    groups: deque[list[JointRequest]] = field(default_factory=deque)
    halved: Callable[[int, int], None] = lambda rows, rows_now: None

    def slots_needed(self) -> int:
        """Return how many slots the first group needs."""
        return sum(not request.prompt.done for request in self.groups[0])

    def prompts(self) -> list[ReplyRequest]:
        """Return the prompts that have no reply yet."""
        return [request.prompt for group in self.groups for request in group if not request.prompt.done]

    def give_up(self) -> list[ReplyRequest]:
        """Drop all references; return the prompts that have no reply yet, to be prefilled separately."""
        prompts = self.prompts()
        self.groups.clear()
        return prompts

    def shrink(self) -> list[ReplyRequest]:
        """Make the remaining groups smaller after the first did not fit into memory.

        If that was a single request, drop its reference and return its prompt, unless it has a reply already.
        """
        first = self.groups[0]
        if len(first) == 1:
            self.groups.popleft()
            return [request.prompt for request in first if not request.prompt.done]
        rows = len(first) // 2
        budget = rows * len(first[0])
        self.groups = deque(smaller for group in self.groups for smaller in batches(group, budget))
        self.halved(len(first), rows)
        return []


def joint_groups(
    requests: Sequence[ReplyRequest], model: CausalLM, device: str, columns: int, *, limit: int | None
) -> deque[list[JointRequest]]:
    """Return the groups of prompts and references to be prefilled together, without those that are fully scored.

    Groups are formed from finished requests too. ``columns`` is the width of the slots; ``limit`` is the config's
    ``batch_tokens``.
    """
    groups = _groups(requests, model, device, columns, limit)
    return deque(group for group in groups if not all(request.scored.done for request in group))


def batches_to_share(
    requests: Sequence[ReplyRequest], model: CausalLM, device: str, columns: int, *, limit: int | None
) -> list[list[ReplyRequest]]:
    """Return all requests in the batches that several processes share out: joint groups, and prompts alone."""
    joint = [[request.prompt for request in group] for group in _groups(requests, model, device, columns, limit)]
    return joint + [[request] for request in longest_first([one for one in requests if one.reference is None])]


def _groups(
    requests: Sequence[ReplyRequest], model: CausalLM, device: str, columns: int, limit: int | None
) -> Iterator[list[JointRequest]]:
    both = [JointRequest(request, request.reference) for request in requests if request.reference is not None]
    rows = joint_rows(model, device, columns, limit=limit)
    return batches(longest_first(both), joint_tokens(model, device, limit=limit), most_rows=rows)
