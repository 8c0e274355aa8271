"""What reaches a server, and what becomes of its failures: one sentence with the right exit code."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import httpx2
import pytest

from harness.backends.endpoint import client
from harness.backends.endpoint.client import ATTEMPTS, Limit, Server
from harness.backends.endpoint.errors import RefusedError, ServerError
from harness.errors import HarnessError, InputError
from tests.backends.endpoint.server import (
    Fault,
    ScriptedServer,
    answering,
    breaking_off,
    half_a_line,
    hanging_up,
    served,
    stalled,
)

Start = Callable[..., ScriptedServer]


def ask(variant: Any, limit: Limit | None = None) -> Any:
    """Ask for the list of models."""
    with Server(variant) as server:

        async def models() -> Any:
            return await server.ask("/models", limit=limit)

        return server.run(models)


def failure(variant: Any) -> HarnessError:
    with pytest.raises(HarnessError) as caught:
        ask(variant)
    return caught.value


@pytest.mark.parametrize(
    "fault",
    [answering(429), answering(500), answering(503), half_a_line, breaking_off, hanging_up],
    ids=["429", "500", "503", "half a line", "breaking off", "hanging up"],
)
def test_what_may_pass_is_tried_again(start: Start, waits: list[float], fault: Fault) -> None:
    server = start(faults=[fault, fault])
    assert ask(served(server.url))["data"][0]["id"] == "deployed"
    assert len(server.headers) == 3


def test_the_wait_that_a_server_asks_for_is_kept_and_otherwise_doubles(start: Start, waits: list[float]) -> None:
    server = start(faults=[answering(429, retry_after="7"), answering(503), answering(503, retry_after="soon")])
    ask(served(server.url))
    assert waits[0] == 7
    assert 0.75 <= waits[1] <= 1.25
    assert 1.5 <= waits[2] <= 2.5


def test_a_day_is_not_waited_for(start: Start, waits: list[float]) -> None:
    ask(served(start(faults=[answering(429, retry_after="86400")]).url))
    assert waits == [client.LONGEST_WAIT]


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        (
            answering(500, {"error": {"message": "EngineCore\nis dead"}}),
            "answers 500 Internal Server Error: EngineCore is dead",
        ),
        (half_a_line, "answers with what is not JSON"),
        (breaking_off, "breaks off its answer"),
        (hanging_up, "breaks off its answer"),
    ],
    ids=["500", "half a line", "breaking off", "hanging up"],
)
def test_what_does_not_pass_ends_the_run_in_one_sentence(
    start: Start, waits: list[float], fault: Fault, says: str
) -> None:
    server = start(always=fault)
    error = failure(served(server.url))
    assert str(error) == (
        f"Variant 'served': the server at {server.url} {says}, {ATTEMPTS} times in a row. See that it runs and run the "
        "same command again: what is finished is kept."
    )
    assert (type(error), error.exit_code) == (ServerError, 4)
    assert len(server.headers) == ATTEMPTS


def test_a_stalled_server_is_given_up(start: Start, waits: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "TIMEOUT", httpx2.Timeout(0.05))
    error = failure(served(start(always=stalled).url))
    assert "sends nothing for 0.05 s, 6 times in a row" in str(error)
    assert error.exit_code == 4


def test_nobody_at_the_address_is_one_sentence(start: Start, waits: list[float]) -> None:
    error = failure(served("http://127.0.0.1:9/v1"))
    assert "the server at http://127.0.0.1:9/v1 cannot be reached, 6 times in a row" in str(error)
    assert error.exit_code == 4


def test_trouble_halves_what_is_asked_at_once_but_not_for_each_of_those_under_way() -> None:
    limit = Limit(16)
    for _ in range(16):
        limit.lower(16)
    assert limit.now == 8
    for seen in (8, 4, 2, 1, 1):
        limit.lower(seen)
    assert limit.now == 1


def test_a_refusal_is_not_repeated(start: Start, waits: list[float]) -> None:
    server = start(faults=[answering(400, {"error": {"message": "too long"}})])
    error = failure(served(server.url))
    assert isinstance(error, RefusedError)
    assert error.said == "400 Bad Request: too long"
    assert len(server.headers) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_refused_and_the_other_host_hears_nothing(start: Start, status: int) -> None:
    other = start()
    server = start(always=answering(status, location=f"{other.url}/models"))
    error = failure(served(server.url))
    assert f"redirects to {other.url}/models, which is not followed" in str(error)
    assert (error.exit_code, other.headers) == (2, [])


def test_proxies_of_the_environment_hear_nothing(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy, server = start(), start()
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url.removesuffix("/v1"))
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    ask(served(server.url))
    assert (len(server.headers), proxy.headers) == (1, [])


def test_the_key_is_sent_and_hidden_where_the_server_repeats_it(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "sk-very-secret")
    server = start(faults=[answering(400, {"error": {"message": "Bad key sk-very-secret?"}})])
    error = failure(served(server.url, api_key_env="SERVER_KEY"))
    assert {name.lower(): value for name, value in server.headers[0].items()}[
        "authorization"
    ] == "Bearer sk-very-secret"
    assert "Bad key ***?" in str(error)


def test_without_a_key_none_is_sent(start: Start) -> None:
    server = start()
    ask(served(server.url))
    assert "authorization" not in {name.lower() for name in server.headers[0]}


def test_an_unset_key_is_named(start: Start) -> None:
    with pytest.raises(InputError, match="the environment variable SERVER_KEY does not hold its server's key"):
        Server(served("http://127.0.0.1:9/v1", api_key_env="SERVER_KEY"))


@pytest.mark.parametrize("status", [401, 403])
def test_refused_access_names_what_to_set(start: Start, status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SERVER_KEY", "wrong")
    server = start(always=answering(status))
    assert "See that SERVER_KEY holds its key." in str(failure(served(server.url, api_key_env="SERVER_KEY")))
    error = failure(served(server.url))
    assert str(error).endswith("Name the variable that holds its key as 'api_key_env'.")
    assert error.exit_code == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
         "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        error = failure(served(f"https://localhost:{server.server_port}/v1"))
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert "has a certificate that this machine does not trust" in str(error)
    assert error.exit_code == 2


def test_an_answer_is_read_inside_a_running_event_loop(start: Start) -> None:
    import anyio

    async def notebook() -> Any:
        return ask(served(start().url))

    assert anyio.run(notebook)["object"] == "list"
