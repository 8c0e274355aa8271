"""Ask a server many things, some at once, and yield each answer as it arrives."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any, TypeVar

from harness.backends.endpoint.client import Limit, Server

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


def answers(
    server: Server, requests: Iterable[Asked], ask: Callable[[Asked], Coroutine[Any, Any, Answer]], limit: Limit
) -> Generator[Answer]:
    """Yield the answers in the order of their arrival; the first error ends the others, after what has arrived."""
    waiting = deque(requests)
    under_way: set[Future[Answer]] = set()
    try:
        while waiting or under_way:
            while waiting and len(under_way) < limit.now:
                under_way.add(server.start(ask, waiting.popleft()))
            done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
            failures = [error for one in done if (error := one.exception()) is not None]
            yield from (one.result() for one in done if one.exception() is None)
            if failures:
                raise failures[0]
    finally:
        for one in under_way:
            one.cancel()
