"""Shares of several processes: together everything once, in the batches of one process, whatever memory is free."""

from __future__ import annotations

import random
from typing import Any

import pytest

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, ScoringRequest
from harness.backends.local import scoring
from harness.backends.local.backend import LocalBackends
from harness.backends.ranks import Share
from harness.variants.model import Variant
from tests.backends.local.small_models import WORDS
from tests.backends.local.test_joint import asked

OF = 3


def references(count: int) -> list[ScoringRequest]:
    pick = random.Random(5)
    lengths = [pick.randrange(20, 120) for _ in range(count)]
    return [
        ScoringRequest(f"r{n}", (1, *(pick.randrange(3, len(WORDS)) for _ in range(length))), 4)
        for n, length in enumerate(lengths)
    ]


def opened(variant: Variant, share: Share | None = None) -> Any:
    backends = LocalBackends((variant,), "cpu", event=lambda kind, detail: None, batch_tokens=600)
    if share is not None:
        backends.take(share)
    return backends.of(variant)


def test_three_shares_of_references_are_one_processs_likelihoods_to_the_last_bit(trio: tuple[Variant, ...]) -> None:
    wanted = references(40)
    alone = {one.id: one.nll for one in opened(trio[0]).score(wanted)}
    shares = [{one.id: one.nll for one in opened(trio[0], Share(rank, OF)).score(wanted)} for rank in range(OF)]
    assert sum(map(len, shares)) == len(wanted)
    assert shares[0] | shares[1] | shares[2] == alone
    assert min(map(len, shares)) > 5


def test_a_process_with_less_free_memory_takes_the_same_share(
    trio: tuple[Variant, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = references(40)
    roomy = [one.id for one in opened(trio[0], Share(1, OF)).score(wanted)]
    monkeypatch.setattr(scoring, "scoring_tokens", lambda *arguments, **named: 150)
    assert sorted(one.id for one in opened(trio[0], Share(1, OF)).score(wanted)) == sorted(roomy)


def test_three_shares_of_replies_and_their_references_are_those_of_one_process(trio: tuple[Variant, ...]) -> None:
    settings = DecodingSettings(max_new_tokens=6)
    wanted = [*asked(21), *(ReplyRequest(f"alone{n}", (1, 5 + n)) for n in range(5))]

    def answers(share: Share | None = None) -> dict[tuple[str, bool], object]:
        found = opened(trio[1], share).generate(wanted, settings)
        return {(one.id, isinstance(one, Reply)): one.tokens if isinstance(one, Reply) else one.nll for one in found}

    alone, shares = answers(), [answers(Share(rank, OF)) for rank in range(OF)]
    assert len(alone) == 2 * 21 + 5
    assert sum(map(len, shares)) == len(alone)
    assert shares[0] | shares[1] | shares[2] == alone
