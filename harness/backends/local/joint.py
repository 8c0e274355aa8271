"""Prompt and reference through the model once: the forward that scores a reference also begins the reply.

Requests go in by groups, and which ones go together never depends on what is finished or on how much memory is free: a
request's neighbours change its likelihood in the seventh digit, and a run that was interrupted must end with the
numbers of one that was not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from harness.backends.base import ReplyRequest, ScoringRequest
from harness.backends.local.batches import batches, joint_rows, joint_tokens, longest_first
from harness.backends.local.transformers_types import CausalLM


@dataclass(frozen=True)
class JointRequest:
    """A prompt, and prompt and reference as they are scored, which begin with the prompt's tokens.

    Where its reply is done already, it takes no slot.
    """

    prompt: ReplyRequest
    scored: ScoringRequest

    def __len__(self) -> int:
        return max(len(self.prompt), len(self.scored) - 1)

    @property
    def ids(self) -> tuple[int, ...]:
        """What goes through the model: all but the last token, which predicts nothing that is scored."""
        return max(self.prompt.ids, self.scored.ids[:-1], key=len)


@dataclass
class JointWork:
    """The groups still to go in, longest first.

    ``halved`` is told the rows of a group that did not fit into memory, and how many go in now.
    """

    groups: deque[list[JointRequest]] = field(default_factory=deque)
    halved: Callable[[int, int], None] = lambda rows, rows_now: None

    def slots_needed(self) -> int:
        """Return how many slots the first group wants."""
        return sum(not request.prompt.done for request in self.groups[0])

    def prompts(self) -> list[ReplyRequest]:
        """Return the prompts that have no reply yet."""
        return [request.prompt for group in self.groups for request in group if not request.prompt.done]

    def give_up(self) -> list[ReplyRequest]:
        """Let all references go; return the prompts that have no reply yet, to be put in alone."""
        prompts = self.prompts()
        self.groups.clear()
        return prompts

    def shrink(self) -> list[ReplyRequest]:
        """Make the groups that are left smaller, the first having been too large for memory.

        Where that was one request by itself, its reference is let go: return its prompt, if it has no reply yet.
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
    """Return the groups in which references go in with their prompts, without those in which every one is scored.

    Groups are formed from finished requests too. ``columns`` is the width of the slots; ``limit`` bounds tokens, as a
    config's ``batch_tokens`` does.
    """
    both = [JointRequest(request, request.reference) for request in requests if request.reference is not None]
    rows = joint_rows(model, device, columns, limit=limit)
    groups = batches(longest_first(both), joint_tokens(model, device, limit=limit), most_rows=rows)
    return deque(group for group in groups if not all(request.scored.done for request in group))
