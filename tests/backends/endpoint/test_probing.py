"""What a server can do is found out by asking it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest

from harness.backends.base import Capability
from harness.backends.endpoint.backend import EndpointBackend, EndpointBackends
from harness.backends.endpoint.prompting import Form
from harness.errors import HarnessError, InputError
from harness.progress import EventKind
from tests.backends.endpoint.server import ALL, ScriptedServer, answering, served

Start = Callable[..., ScriptedServer]


@pytest.fixture
def backend() -> Iterable[Callable[..., EndpointBackend]]:
    """Return a function that opens the backend of a server."""
    opened: list[EndpointBackends] = []

    def open_one(server: ScriptedServer, **changes: Any) -> EndpointBackend:
        variant = served(server.url, **changes)
        opened.append(EndpointBackends([variant], event=lambda *_: None))
        found: Any = opened[-1].of(variant)
        return found

    yield open_one
    for one in opened:
        one.close()


Open = Callable[[ScriptedServer], EndpointBackend]


@pytest.mark.parametrize(
    ("able", "form", "scored_by", "returns_ids"),
    [
        (ALL, Form.IDS, "prompt_logprobs", True),
        (ALL - {"extended", "prompt_logprobs"}, Form.IDS, "echo", False),
        (ALL - {"prompt_logprobs", "echo"}, Form.IDS, None, True),
        (ALL - {"ids"}, Form.TEXT, "prompt_logprobs", True),
        (ALL - {"ids", "extended", "prompt_logprobs", "echo", "models"}, Form.TEXT, None, False),  # transformers serve
        (ALL - {"ids", "text"}, Form.MESSAGES, None, True),
        (ALL - {"ids", "text", "extended"}, Form.MESSAGES, None, False),
        (ALL - {"usage", "models"}, Form.IDS, "prompt_logprobs", True),
    ],
)
def test_each_server_is_asked_in_the_best_way_that_it_understands(
    start: Start, backend: Open, able: frozenset[str], form: Form, scored_by: str | None, returns_ids: bool
) -> None:
    found = backend(start(able=able)).abilities
    assert (found.generator.form, found.returns_ids) == (form, returns_ids)
    assert (found.scorer and found.scorer.way.name) == scored_by


def test_a_server_without_log_probabilities_cannot_score_and_says_why(start: Start, backend: Open) -> None:
    one = backend(start(able=ALL - {"prompt_logprobs", "echo"}))
    assert one.capabilities == {Capability.TOKENS, Capability.GENERATE, Capability.TIME}
    assert one.lacking[Capability.SCORE] == "the server returns no log-probabilities of the prompt"
    assert Capability.SCORE in backend(start()).capabilities


def test_a_server_that_counts_other_tokens_than_it_was_given_gets_text(start: Start, backend: Open) -> None:
    def one_more(answer: dict[str, Any]) -> None:
        answer["usage"]["prompt_tokens"] += 1
        answer["choices"][0].pop("prompt_token_ids", None)

    assert backend(start(changes=one_more)).abilities.generator.form is Form.TEXT


def test_a_tokenizer_that_is_not_the_servers_is_refused_unless_allowed(start: Start, backend: Open) -> None:
    server = start()
    tokenizer = server.tokenizer

    class Other:
        """Reads every text as one token more; ids it takes as they are."""

        eos_token_id = tokenizer.eos_token_id
        decode = staticmethod(tokenizer.decode)

        def __call__(self, text: str, **options: Any) -> Any:
            return {"input_ids": [*tokenizer(text, **options)["input_ids"], 5]}

    server.tokenizer = Other()
    with pytest.raises(InputError, match="reads a text as other tokens than the server does"):
        backend(server).check(lambda *_: None, False)
    rows = backend(server).check(lambda *_: None, True)
    assert [(row.name, row.ok) for row in rows] == [("server answers", True), ("tokenizers agree", False)]


def test_a_model_that_is_not_served_is_named_with_those_that_are(start: Start, backend: Any) -> None:
    with pytest.raises(InputError, match=r"serves no model 'deploid', but deployed. Did you mean 'deployed'\?"):
        assert backend(start(), model="deploid").capabilities


def test_a_model_of_a_server_without_a_list_is_refused_in_its_words(start: Start, backend: Any) -> None:
    server = start(able=ALL - {"models"})
    with pytest.raises(InputError, match=r"completes nothing for 'other' \(404 Not Found: The model other does not"):
        assert backend(server, model="other").capabilities


def test_a_server_that_only_fails_is_broken_and_not_the_config(start: Start, backend: Open) -> None:
    with pytest.raises(HarnessError, match=r"completes nothing \(500 Internal Server Error: dead\)") as caught:
        assert backend(start(always=answering(500, {"message": "dead"}))).capabilities
    assert caught.value.exit_code == 4


def test_an_answer_of_another_kind_is_one_sentence(start: Start, backend: Open) -> None:
    with pytest.raises(HarnessError, match=r"answers with what is no completion of OpenAI's API \(choices\)") as caught:
        assert backend(start(changes=lambda answer: answer.pop("choices"))).capabilities
    assert caught.value.exit_code == 4


def test_the_context_is_what_the_server_states_of_the_model_or_of_its_base(start: Start, backend: Open) -> None:
    assert backend(start()).context_length == 384
    base, adapter = {"id": "base", "max_model_len": 256}, {"id": "deployed", "parent": "base", "max_model_len": None}
    assert backend(start(models=[base, adapter])).context_length == 256
    assert backend(start(able=ALL - {"models"})).context_length == 512  # that of the tokenizer's folder


def test_only_messages_make_an_event(start: Start, backend: Open) -> None:
    told: list[Any] = []
    backend(start()).check(lambda *event: told.append(event), False)
    assert told == []
    server = start(able=ALL - {"ids", "text"})
    (row,) = backend(server).check(lambda *event: told.append(event), False)
    assert told == [(EventKind.SERVER_TEMPLATE, {"variant": "served", "url": server.url})]
    assert "the server's own chat template makes the prompt" in row.detail


def test_probes_tell_nothing_of_any_dialogue(start: Start, backend: Open) -> None:
    server = start()
    assert backend(server).capabilities
    assert server.asked
    assert server.dialogues_asked == []
