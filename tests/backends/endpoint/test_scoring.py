"""Scores of references from a server's log-probabilities of a prompt."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from harness.backends.base import Score, ScoringRequest
from harness.backends.endpoint.backend import EndpointBackends
from harness.errors import HarnessError
from tests.backends.endpoint.server import ALL, ScriptedServer, answering, logprob, served

Start = Callable[..., ScriptedServer]
IDS = (0, 40, 50, 60, 70, 80)


def scores(server: ScriptedServer, *requests: ScoringRequest, fault: Any = None) -> list[Score]:
    """Return what the backend of a server answers; ``fault`` comes after the probes."""
    variant = served(server.url)
    backends = EndpointBackends([variant], event=lambda *_: None)
    try:
        backend = backends.of(variant)
        assert backend.capabilities
        if fault:
            server.faults.append(fault)
        return list(backend.score(requests))
    finally:
        backends.close()


@pytest.mark.parametrize("able", [ALL, ALL - {"prompt_logprobs"}], ids=["prompt_logprobs", "echo"])
def test_nll_sums_the_references_tokens_alone(start: Start, able: frozenset[str]) -> None:
    (score,) = scores(start(able=able), ScoringRequest("a", IDS, 3))
    assert score == Score("a", pytest.approx(-(logprob(60) + logprob(70) + logprob(80)), rel=1e-12))


def test_what_is_done_is_not_asked_for(start: Start) -> None:
    server = start()
    found = scores(server, ScoringRequest("a", IDS, 3, done=True), ScoringRequest("b", IDS[:4], 2))
    assert [score.id for score in found] == ["b"]
    assert [body["prompt"] for body in server.dialogues_asked] == [list(IDS[:4])]


def test_scores_of_other_tokens_end_the_run(start: Start) -> None:
    other = [None, *({"7": {"logprob": -1.0}} for _ in IDS[1:])]
    fault = answering(200, {"choices": [{"text": "", "prompt_logprobs": other}]})
    with pytest.raises(HarnessError, match="scores other tokens than it was asked for") as caught:
        scores(start(), ScoringRequest("a", IDS, 3), fault=fault)
    assert caught.value.exit_code == 4


def test_scores_of_too_few_tokens_end_the_run(start: Start) -> None:
    fault = answering(200, {"choices": [{"text": "", "prompt_logprobs": [None, {"40": {"logprob": -1.0}}]}]})
    with pytest.raises(HarnessError, match="scores other tokens"):
        scores(start(), ScoringRequest("a", IDS, 3), fault=fault)


def test_a_refused_dialogue_is_its_own_error_without_the_servers_words(start: Start) -> None:
    fault = answering(400, {"error": {"message": "The patient's words are too long: I have"}})
    first, second = scores(start(), ScoringRequest("a", IDS, 3), ScoringRequest("b", IDS, 3), fault=fault)
    assert {first.error, second.error} == {"the server refuses it (status 400)", None}


def test_vllms_stand_in_for_minus_infinity_is_infinite(start: Start) -> None:
    fault = answering(
        200,
        {
            "choices": [
                {"prompt_logprobs": [None, *({str(i): {"logprob": -1.0 if i < 80 else -9999.0}} for i in IDS[1:])]}
            ]
        },
    )
    (score,) = scores(start(), ScoringRequest("a", IDS, 3), fault=fault)
    assert score.nll == math.inf


def test_beside_adapters_one_prompt_is_scored_at_a_time(start: Start) -> None:
    requests = [ScoringRequest(str(n), IDS, 3) for n in range(6)]
    with_adapter = start(models=[{"id": "base"}, {"id": "deployed", "parent": "base"}], delay=0.02)
    without = start(delay=0.02)
    assert len(scores(with_adapter, *requests)) == len(scores(without, *requests)) == 6
    assert with_adapter.at_once == 1
    assert without.at_once > 1
