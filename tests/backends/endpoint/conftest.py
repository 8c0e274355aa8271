"""Servers that run for one test, and waits that take no time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from harness.backends.endpoint import client
from tests.backends.endpoint.server import ScriptedServer


@pytest.fixture
def start() -> Iterator[Callable[..., ScriptedServer]]:
    """Return a function that starts a server until the test ends."""
    with ExitStack() as running:
        yield lambda **changes: running.enter_context(ScriptedServer(**changes).running())


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let the waits between attempts be noted instead of waited for."""
    noted: list[float] = []

    async def sleep(seconds: float) -> None:
        noted.append(seconds)

    monkeypatch.setattr(client, "sleep", sleep)
    return noted


@pytest.fixture(autouse=True)
def _no_key_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("SERVER_KEY", raising=False)
