"""Prompt and reference in one forward give what two forwards give, and groups do not hang on what is finished."""

from __future__ import annotations

import random
from collections import deque
from dataclasses import replace
from typing import Any

import pytest
import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, Score, ScoringRequest
from harness.backends.local.batches import columns_for
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.joint import JointRequest, JointWork, joint_groups
from harness.backends.local.pool import LoadedModel
from harness.backends.local.scoring import CausalForward, negative_log_likelihoods
from tests.backends.local.small_models import WORDS
from tests.backends.local.test_decoding import lent, plain

SETTINGS = DecodingSettings(max_new_tokens=12)


def pairs(count: int, *, reference: int = 20, answered: frozenset[str] = frozenset()) -> list[JointRequest]:
    """Joint requests of random tokens, longest first."""
    pick = random.Random(3)

    def some(most: int) -> tuple[int, ...]:
        return tuple(pick.randrange(3, len(WORDS)) for _ in range(pick.randrange(1, most)))

    made = []
    for i in range(count):
        prompt = ReplyRequest(f"r{i}", (1, *some(20)), done=f"r{i}" in answered)
        scored = ScoringRequest(prompt.id, prompt.ids + some(reference), len(prompt))
        made.append(JointRequest(prompt, scored))
    return sorted(made, key=len, reverse=True)


def asked(count: int, **options: Any) -> list[ReplyRequest]:
    """The same as prompts that carry their references."""
    return [replace(request.prompt, reference=request.scored) for request in pairs(count, **options)]


def run(
    loaded: LoadedModel, groups: list[list[JointRequest]], rows: int = 8
) -> tuple[dict[str, Reply], dict[str, float]]:
    """Return replies and likelihoods by request."""
    columns = columns_for([request.prompt for group in groups for request in group], SETTINGS)
    decoder = SlotDecoder(loaded, SETTINGS, rows=rows, columns=columns)
    answers = list(decoder.run(deque(), JointWork(deque(groups))))
    replies = {one.id: one for one in answers if isinstance(one, Reply)}
    return replies, {one.id: one.nll for one in answers if isinstance(one, Score) and one.nll is not None}


def likelihoods(loaded: LoadedModel, requests: list[JointRequest]) -> dict[str, float]:
    scored = [request.scored for request in requests]
    found = negative_log_likelihoods(CausalForward(loaded.model), scored, "cpu")
    return dict(zip((request.id for request in scored), found, strict=True))


@pytest.mark.parametrize(("rows", "together"), [(8, 4), (8, 1), (3, 6), (1, 5)])  # the last two: too few slots
def test_replies_and_likelihoods_are_those_of_two_forwards(rows: int, together: int) -> None:
    loaded, wanted = lent(), pairs(14)
    groups = [wanted[i : i + together] for i in range(0, len(wanted), together)]
    replies, nlls = run(loaded, groups, rows)
    assert nlls == pytest.approx(likelihoods(loaded, wanted), rel=1e-6)
    for request in wanted:
        assert replies[request.prompt.id].tokens == plain(loaded, request.prompt, SETTINGS)


def test_a_reference_longer_than_a_slot_is_scored_whole_and_its_reply_is_right() -> None:
    loaded, wanted = lent(), pairs(6, reference=95)
    assert max(map(len, wanted)) > columns_for([request.prompt for request in wanted], SETTINGS) == 64
    replies, nlls = run(loaded, [wanted])
    assert nlls == pytest.approx(likelihoods(loaded, wanted), rel=1e-6)
    assert {name: reply.tokens for name, reply in replies.items()} == {
        request.prompt.id: plain(loaded, request.prompt, SETTINGS) for request in wanted
    }


def test_scored_tokens_may_begin_before_the_prompt_ends() -> None:
    """As where a prompt ends in a line break: it is put in, and scored as the reference's first token."""
    loaded = lent()
    prompt = ReplyRequest("a", (1, 9, 8, 7))
    both = JointRequest(prompt, ScoringRequest("a", (1, 9, 8, 7, 6, 5), 3))
    replies, nlls = run(loaded, [[both]])
    assert nlls == pytest.approx(likelihoods(loaded, [both]), rel=1e-6)
    assert replies["a"].tokens == plain(loaded, prompt, SETTINGS)


def test_an_answered_request_takes_no_slot_and_changes_no_digit() -> None:
    loaded = lent()
    _, before = run(loaded, [pairs(6)])
    replies, nlls = run(loaded, [pairs(6, answered=frozenset({"r0", "r4"}))], rows=4)
    assert replies.keys() == {"r1", "r2", "r3", "r5"}
    assert nlls == before


def test_a_group_that_is_all_answered_is_scored_all_the_same() -> None:
    wanted = pairs(3, answered=frozenset({"r0", "r1", "r2"}))
    replies, nlls = run(lent(), [wanted], rows=1)
    assert not replies
    assert len(nlls) == 3


def test_a_reference_that_is_no_number_spoils_no_reply() -> None:
    loaded, wanted = lent(), pairs(6)
    clean, _ = run(loaded, [wanted])
    read = {token for request in wanted for token in request.ids[len(request.prompt) :]}
    elsewhere = {token for request in wanted for token in (*request.prompt.ids, *clean[request.prompt.id].tokens)}
    poison = max(read - elsewhere)
    only = {request.prompt.id for request in wanted if poison in request.ids}
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[poison] = float("nan")
    replies, nlls = run(loaded, [wanted])
    assert {name for name, nll in nlls.items() if nll != nll} == only
    assert {name: reply.tokens for name, reply in replies.items()} == {
        name: reply.tokens for name, reply in clean.items()
    }


def test_scores_come_before_the_replies_of_their_group() -> None:
    loaded, wanted = lent(), pairs(9)
    scored: list[str] = []
    columns = columns_for([request.prompt for request in wanted], SETTINGS)
    work = JointWork(deque([wanted[:3], wanted[3:6], wanted[6:]]))
    for answer in SlotDecoder(loaded, SETTINGS, rows=3, columns=columns).run(deque(), work):
        if isinstance(answer, Score):
            scored.append(answer.id)
        else:
            assert answer.id in scored
    assert len(scored) == 9


def test_groups_are_the_same_whatever_is_answered() -> None:
    def names(**options: Any) -> list[list[str]]:
        groups = joint_groups(asked(30, **options), lent().model, "cpu", 64, limit=None)
        return [[request.prompt.id for request in group] for group in groups]

    assert names() == names(answered=frozenset(f"r{i}" for i in range(0, 30, 2)))
    assert [len(group) for group in names()] == [8, 8, 8, 6]


def test_groups_stay_within_the_tokens_that_the_config_allows() -> None:
    groups = joint_groups(asked(30), lent().model, "cpu", 1, limit=100)
    assert all(len(group) == 1 or len(group) * len(group[0]) <= 100 for group in groups)
    assert max(map(len, groups)) > 1


def test_shrinking_goes_down_to_one_request_and_then_gives_its_reference_up() -> None:
    wanted = pairs(5, answered=frozenset({"r1"}))
    rows: list[tuple[int, int]] = []
    work = JointWork(deque([wanted]), halved=lambda before, now: rows.append((before, now)))
    given_up: list[str] = []
    while work.groups:
        given_up += [request.id for request in work.shrink()]
    assert rows == [(5, 2), (2, 1)]
    assert given_up == [request.prompt.id for request in wanted if request.prompt.id != "r1"]
