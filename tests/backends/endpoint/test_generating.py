"""Replies from a server, in the words and tokens that the local backend would report."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from harness.backends.base import DecodingSettings, Reply, ReplyRequest
from harness.backends.endpoint.backend import EndpointBackends
from harness.backends.endpoint.prompting import as_text
from harness.backends.endpoint.wire import Completion
from harness.dialogues.tokens import encode_prompt
from harness.errors import HarnessError
from tests.backends.endpoint.server import ALL, REPLY, Fault, ScriptedServer, answering, served

Start = Callable[..., ScriptedServer]
IDS = (0, 40, 50, 60)
GREEDY = DecodingSettings(30)


def replies(
    server: ScriptedServer,
    *requests: ReplyRequest,
    settings: DecodingSettings = GREEDY,
    fault: Fault | None = None,
    always: Fault | None = None,
) -> list[Reply]:
    """Return what the backend of a server answers; faults come after the probes."""
    variant = served(server.url)
    backends = EndpointBackends([variant], event=lambda *_: None)
    try:
        backend = backends.of(variant)
        assert backend.capabilities
        server.faults, server.always = [fault] if fault else [], always
        found: list[Any] = list(backend.generate(requests or [ReplyRequest("a", IDS)], settings))
        return found
    finally:
        backends.close()


def choice(**fields: Any) -> Fault:
    return answering(200, {"choices": [{"text": "x", "finish_reason": "stop", **fields}]})


def test_a_reply_has_the_servers_tokens_without_the_one_that_ended_it(start: Start) -> None:
    server = start()
    (reply,) = replies(server)
    assert (reply.text, reply.finish, reply.error) == (REPLY, "eos", None)
    assert list(reply.tokens) == server.tokenizer(REPLY, add_special_tokens=False)["input_ids"]


def test_a_reply_that_was_cut_says_so(start: Start) -> None:
    server = start()
    (reply,) = replies(server, settings=DecodingSettings(3))
    assert (len(reply.tokens), reply.finish) == (3, "length")


def test_another_end_token_is_none_of_the_replys(start: Start) -> None:
    (reply,) = replies(start(), fault=choice(token_ids=[40, 50, 9], stop_reason=9))
    assert (reply.tokens, reply.finish) == ((40, 50), "eos")


def test_a_stop_string_ends_the_reply_before_it(start: Start) -> None:
    server = start()
    (reply,) = replies(server, settings=DecodingSettings(30, stop=(" and",)))
    assert (reply.text, reply.finish) == ("Drink water", "stop")
    assert server.tokenizer.decode(reply.tokens) == "Drink water"
    assert server.dialogues_asked[-1]["stop"] == [" and"]


def test_without_token_ids_the_text_is_encoded_again(start: Start) -> None:
    server = start(able=ALL - {"extended", "usage"})
    (reply,) = replies(server)
    assert (reply.text, reply.finish) == (REPLY, "eos")
    assert list(reply.tokens) == server.tokenizer(REPLY, add_special_tokens=False)["input_ids"]
    (stopped,) = replies(server, settings=DecodingSettings(30, stop=(" and",)))
    assert (stopped.text, stopped.finish) == ("Drink water", "stop")


def test_greedy_is_asked_for_against_the_servers_own_defaults(start: Start) -> None:
    server = start()
    replies(server)
    body = server.dialogues_asked[-1]
    wanted = {"temperature": 0.0, "repetition_penalty": 1.0, "min_p": 0.0, "top_k": -1, "max_tokens": 30}
    assert {name: body[name] for name in wanted} == wanted
    assert "seed" not in body


def test_a_sampled_reply_has_a_seed_of_its_own_dialogue(start: Start) -> None:
    server = start()
    sampled = DecodingSettings(4, temperature=0.7, top_p=0.9, seed=1)
    both = [ReplyRequest("a", IDS), ReplyRequest("b", IDS)]
    replies(server, *both, settings=sampled)
    replies(server, *both, settings=sampled)
    seeds = [body["seed"] for body in server.dialogues_asked if "seed" in body]
    assert len(seeds) == 4
    assert len(set(seeds)) == 2


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        (choice(finish_reason="content_filter"), "the server ended the reply with finish_reason 'content_filter'"),
        (answering(400, {"error": {"message": "I have a fever"}}), "the server refuses it (status 400)"),
        (answering(413), "the server refuses it (status 413)"),
    ],
)
def test_what_one_dialogue_cannot_get_is_its_own_error(start: Start, fault: Fault, why: str) -> None:
    found = replies(start(), ReplyRequest("a", IDS), ReplyRequest("b", IDS), fault=fault)
    assert sorted(str(reply.error) for reply in found) == sorted(["None", why])


def test_a_model_taken_away_ends_the_run(start: Start) -> None:
    with pytest.raises(HarnessError, match="refuses a request") as caught:
        replies(start(), always=answering(404, {"message": "gone"}))
    assert caught.value.exit_code == 4


def test_what_has_arrived_is_yielded_before_the_error(start: Start, waits: list[float]) -> None:
    server = start()
    variant = served(server.url)
    backends = EndpointBackends([variant], event=lambda *_: None)
    try:
        backend = backends.of(variant)
        assert backend.capabilities
        limit = backend.abilities.generator.limit  # type: ignore[attr-defined]
        limit.now = 1
        asked = backend.generate([ReplyRequest(str(n), IDS) for n in range(5)], GREEDY)
        assert [next(asked).id, next(asked).id] == ["0", "1"]
        server.always = answering(500)
        with pytest.raises(HarnessError, match="answers 500"):
            list(asked)
    finally:
        backends.close()


def test_several_are_asked_at_once_but_not_more_than_the_limit(start: Start) -> None:
    server = start(delay=0.02)
    assert len(replies(server, *(ReplyRequest(str(n), IDS) for n in range(40)))) == 40
    assert 1 < server.at_once <= 16


def test_a_busy_server_is_asked_less_at_once(start: Start, waits: list[float]) -> None:
    server = start(delay=0.01)
    variant = served(server.url)
    backends = EndpointBackends([variant], event=lambda *_: None)
    try:
        backend = backends.of(variant)
        assert backend.capabilities
        server.faults = [answering(429, retry_after="0")]
        found = list(backend.generate([ReplyRequest(str(n), IDS) for n in range(20)], GREEDY))
        assert len(found) == 20
        assert backend.abilities.generator.limit.now == 8  # type: ignore[attr-defined]
    finally:
        backends.close()


@pytest.mark.parametrize("text", ["What helps?", "  two spaces\n\n", "é 39 °C 🤒", "<s>already begun"])
def test_a_prompt_given_as_text_is_read_as_the_same_tokens(text: str, start: Start) -> None:
    tokenizer = start().tokenizer
    ids = encode_prompt(tokenizer, text)
    assert list(tokenizer(as_text(tokenizer, ids))["input_ids"]) == ids


def test_half_a_surrogate_pair_in_a_reply_is_replaced() -> None:
    answer = Completion.model_validate(
        json.loads(r'{"choices": [{"text": "Rest \ud83d well", "finish_reason": "stop"}]}')
    )
    assert answer.text == "Rest \ufffd well"
