"""The job that is held against other tools: done whole, or not timed at all."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from benchmarks.peers.jobs import Job, by_harness
from harness.engine.decoding import SlotDecoder
from harness.variants import Variant
from tests.engine.small_models import dialogues

Trio = tuple[Variant, Variant, Variant]


def test_every_dialogue_of_every_variant_is_scored_and_replied_to(trio: Trio) -> None:
    done = by_harness(Job(trio, dialogues(5), 8, "cpu"))
    assert {name: len(found) for name, found in done.nll.items()} == {"base": 5, "adapter": 5, "merged": 5}
    assert {name: len(found) for name, found in done.reply.items()} == {"base": 5, "adapter": 5, "merged": 5}
    assert list(done.parts) == ["generation, with scoring", "scoring, what was left"]


def test_a_job_that_failed_in_part_has_no_time(trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: SlotDecoder, slots: list[int], batch: list[Any], last: torch.Tensor) -> list[int]:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(SlotDecoder, "_begin", never)
    with pytest.raises(RuntimeError, match="base: only 0 of 5 dialogues were replied to"):
        by_harness(Job(trio, dialogues(5), 8, "cpu"))
