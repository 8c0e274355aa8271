"""Timed requests to a server: what is stamped, what is sent, and what a failure leaves."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from harness.backends.base import TimedRequest
from harness.backends.endpoint.backend import EndpointBackends
from harness.backends.endpoint.errors import AgainError, ServerError
from harness.backends.endpoint.timing import stamps_of
from tests.backends.endpoint.server import ALL, ScriptedServer, answering, served, tokenizer

Start = Callable[..., ScriptedServer]
QUESTIONS = [f"What helps against complaint number {n}, and how soon?" for n in range(6)]
PROMPTS = tuple(tuple(tokenizer()(question)["input_ids"]) for question in QUESTIONS)


def ask(server: ScriptedServer, *, at_once: int = 1, tokens: int = 6, prompts: Any = PROMPTS) -> Any:
    events: list[Any] = []
    backends = EndpointBackends([served(server.url)], event=lambda kind, detail: events.append(detail["detail"]))
    try:
        request = TimedRequest("server", prompts, tokens, natural=False, room=99, most_room=99, at_once=at_once)
        return backends.of(served(server.url)).timed(request).each, events
    finally:
        backends.close()


def test_tokens_are_counted_by_ids_and_those_of_one_event_share_its_arrival(start: Start) -> None:
    (one,), _ = ask(start(pause=0.05), prompts=PROMPTS[:1])
    assert len(one.stamps_ns) == 6
    assert one.stamps_ns[0] == one.stamps_ns[1] < one.stamps_ns[2] == one.stamps_ns[3]
    assert one.stamps_ns[2] - one.stamps_ns[0] > 30_000_000  # not all at the end of the stream
    assert one.submitted_ns < one.stamps_ns[0]


@pytest.mark.parametrize("able", [ALL - {"extended"}, ALL - {"ids", "text", "extended"}])
def test_without_ids_the_tokens_of_the_text_are_counted_and_that_is_said(start: Start, able: frozenset[str]) -> None:
    (one,), said = ask(start(able=able), prompts=PROMPTS[:1], tokens=4)
    assert len(one.stamps_ns) == 4
    assert any("encoding the text" in detail for detail in said)


def test_as_many_are_under_way_as_asked_and_never_more(start: Start) -> None:
    server = start(delay=0.05)
    each, _ = ask(server, at_once=3)
    assert len(each) == 6
    assert server.at_once == 3


def test_answers_come_in_the_order_of_the_prompts(start: Start) -> None:
    server = start(delay=0.02)
    each, _ = ask(server, at_once=2)
    assert [one.submitted_ns for one in each] == sorted(one.submitted_ns for one in each)


def test_every_prompt_begins_with_words_of_its_own_and_is_as_long_as_before(start: Start) -> None:
    server = start()
    ask(server, prompts=(PROMPTS[0],) * 4)
    sent = [body["prompt"] for body in server.asked if body.get("stream")]
    assert {len(prompt) for prompt in sent} == {len(PROMPTS[0])}
    assert len({tuple(prompt[:5]) for prompt in sent}) == 4
    assert {prompt[-1] for prompt in sent} == {PROMPTS[0][-1]}


def test_a_reply_is_as_long_as_asked_where_the_server_can_be_told(start: Start) -> None:
    server = start()
    (one,), said = ask(server, prompts=PROMPTS[:1], tokens=40)
    assert len(one.stamps_ns) == 40
    assert not any("ends replies itself" in detail for detail in said)
    (one,), said = ask(start(able=ALL - {"extended"}), prompts=PROMPTS[:1], tokens=40)
    assert len(one.stamps_ns) < 40
    assert any("ends replies itself" in detail for detail in said)


def test_a_failed_request_is_an_error_and_is_not_sent_again(start: Start) -> None:
    server = start()
    backends = EndpointBackends([served(server.url)], event=lambda kind, detail: None)
    try:
        backend = backends.of(served(server.url))
        assert backend.capabilities  # probed before anything fails
        before = len(server.asked)
        server.faults.append(answering(503, {"error": "no room"}))
        each = backend.timed(TimedRequest("server", PROMPTS[:3], 4, natural=False, room=99, most_room=99)).each
    finally:
        backends.close()
    assert [one.error for one in each] == ["the server answers 503 Service Unavailable: no room", None, None]
    assert len(server.asked) == before + 3


def test_a_stream_that_breaks_off_is_an_error(start: Start) -> None:
    (one,), _ = ask(start(ending=b""), prompts=PROMPTS[:1])
    assert one.error == "the server breaks off its answer"
    assert one.stamps_ns == ()


def test_a_server_that_is_gone_ends_the_run() -> None:
    with ScriptedServer().running() as server:
        backends = EndpointBackends([served(server.url)], event=lambda kind, detail: None)
        backend = backends.of(served(server.url))
        assert backend.capabilities  # probed while it is there
    backends.close()
    with pytest.raises(ServerError, match="cannot be reached"):
        backend.timed(TimedRequest("server", PROMPTS[:1], 4, natural=False, room=99, most_room=99))
    backends.close()


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (['data: {"choices": [{"token_i'], "no completion"),
        (["data: [DONE]"], "no token"),
        ([": still here", 'data: {"choices": []}', "data: [DONE]"], "no token"),
        (['data: {"choices": [{"token_ids": [1, 2]}]}'], "breaks off"),
    ],
)
def test_what_is_no_whole_reply_is_no_timing(lines: list[str], says: str) -> None:
    with pytest.raises(AgainError, match=says):
        stamps_of([(time.perf_counter_ns(), line) for line in lines], tokenizer())
