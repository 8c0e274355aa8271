"""What a pass is given, and what it may rely on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from harness.config import RunConfig
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow
from harness.variants.model import Variant

if TYPE_CHECKING:
    from harness.backends.local.pool import ModelPool
from harness.progress import Progress

# The memory pass puts no dialogue to a variant: its records are keyed by this row.
FIXED_WORKLOAD = DialogueRow(id="fixed-workload", prompt="")


def in_order(passes: Sequence[str]) -> tuple[str, ...]:
    """Return the passes in the order in which they run.

    Generation puts every prompt through the model and scores what references it can on its way; scoring then does what
    is left.
    """
    if "scoring" not in passes or "generation" not in passes:
        return tuple(passes)
    return ("generation", "scoring", *(name for name in passes if name not in ("generation", "scoring")))


def _forget(name: str, value: Any) -> None:
    """The default for callers that keep no provenance."""


@dataclass(frozen=True)
class PassContext:
    """One run, as its passes see it.

    ``key(pass_name, variant, dialogue)`` digests all that a record depends on (weights, adapter, quantisation,
    template, settings, prompt and reference): a record with that key is finished work, any other is not ours.
    ``event(kind, detail)`` notes something the report must say, e.g. a batch halved after running out of memory.
    ``fact(name, value)`` puts something found out about the machine or a variant into the run's provenance.
    """

    folder: RunFolder
    config: RunConfig
    variants: tuple[Variant, ...]
    dialogues: tuple[DialogueRow, ...]
    pool: ModelPool
    progress: Progress
    key: Callable[[str, Variant, DialogueRow], str]
    event: Callable[[str, dict[str, Any]], None]
    fact: Callable[[str, Any], None] = _forget
