"""One server: the only address that is spoken to, with retries, and the key that nobody gets to see.

Neither redirects nor proxies nor ``.netrc`` are followed, so a request reaches the host of the config or nobody. The
requests of one server run in an event loop of its own thread, which works in a notebook too, and can be cancelled.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Any, TypeVar

import httpx2
from anyio import sleep
from anyio.from_thread import BlockingPortal, start_blocking_portal

from harness.backends.endpoint.errors import AgainError, RefusedError, ServerError
from harness.errors import InputError
from harness.variants.model import Variant

Answer = TypeVar("Answer")

ATTEMPTS = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 60.0  # seconds between attempts; each wait is twice the one before
# A reply waits in the server's queue before its first byte arrives. Only connecting is quick wherever a server runs.
TIMEOUT = httpx2.Timeout(600.0, connect=10.0, pool=None)
BUSY = {408, 409, 425, 429}
UNREACHABLE = "cannot be reached"


class Limit:
    """How many requests may be under way at once; each sign of trouble halves it, down to one."""

    def __init__(self, now: int) -> None:
        self.now = now

    def lower(self, seen: int) -> None:
        """Halve it, unless that was done since a request that has failed saw it as ``seen``."""
        if seen == self.now:
            self.now = max(1, self.now // 2)


class Server:
    """The server of one variant. ``close`` it, or its thread keeps the process alive."""

    def __init__(self, variant: Variant) -> None:
        self.variant = variant
        self.url = str(variant.url).rstrip("/")
        self._key = _key(variant)
        self._opened = ExitStack()
        self._portal: BlockingPortal | None = None
        self._client: httpx2.AsyncClient | None = None

    def run(self, ask: Callable[..., Coroutine[Any, Any, Answer]], *arguments: Any) -> Answer:
        """Return what a coroutine function returns."""
        answer = self.start(ask, *arguments)
        try:
            return answer.result()
        finally:
            answer.cancel()  # after Ctrl-C its request is still under way

    def start(self, ask: Callable[..., Coroutine[Any, Any, Answer]], *arguments: Any) -> Future[Answer]:
        """Run a coroutine function in the background; cancelling the future ends its request."""
        if self._portal is None:
            self._portal = self._opened.enter_context(start_blocking_portal())
        return self._portal.start_task_soon(ask, *arguments)

    def close(self) -> None:
        """End the requests under way and their thread; later calls start it again."""
        portal, client, self._portal, self._client = self._portal, self._client, None, None
        if portal is not None and client is not None:
            portal.call(client.aclose)
        self._opened.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def ask(
        self, path: str, body: Mapping[str, Any] | None = None, *, limit: Limit | None = None, probing: bool = False
    ) -> Any:
        """Return the JSON answer to a POST of ``body``, or to a GET without one.

        What may pass is tried again, with ``limit`` lowered. While ``probing``, an internal error counts as a refusal:
        servers answer so to what they do not know. Raises RefusedError, ServerError or InputError.
        """
        for attempt in range(ATTEMPTS):
            at_once = limit.now if limit else 0
            try:
                return await self._once(path, body, probing)
            except AgainError as error:
                failed = error
            if limit is not None:
                limit.lower(at_once)
            if attempt + 1 < ATTEMPTS:
                await sleep(_wait(attempt, failed.wait))
        raise self.broken(f"{failed.reason}, {ATTEMPTS} times in a row")

    def broken(self, what: str) -> ServerError:
        """Return the error that ends the run because the server does ``what``."""
        fact = f"the server at {self.url} {what}."
        advice = "See that it runs and run the same command again: what is finished is kept."
        return ServerError(f"Variant '{self.variant.name}': {fact} {advice}", fact)

    async def _once(self, path: str, body: Mapping[str, Any] | None, probing: bool) -> Any:
        client = self._client = self._client or self._new_client()
        try:
            response = await client.request("GET" if body is None else "POST", f"{self.url}{path}", json=body)
        except httpx2.RequestError as error:
            raise self._lost(error) from error
        self._refuse_failure(response, probing)
        try:
            return response.json()
        except (ValueError, RecursionError) as error:
            raise AgainError("answers with what is not JSON") from error

    async def stream(self, path: str, body: Mapping[str, Any]) -> list[tuple[int, str]]:
        """Return the lines of a streamed answer, each with the time of its arrival (``perf_counter_ns``).

        It is never tried again, because it is timed. Raises AgainError besides what ``ask`` raises.
        """
        client = self._client = self._client or self._new_client()
        lines: list[tuple[int, str]] = []
        try:
            async with client.stream("POST", f"{self.url}{path}", json=body) as response:
                if response.status_code == 200:
                    async for line in response.aiter_lines():
                        lines.append((time.perf_counter_ns(), line))
                else:
                    await response.aread()
        except httpx2.RequestError as error:
            raise self._lost(error) from error
        self._refuse_failure(response, probing=False)
        return lines

    def _lost(self, error: httpx2.RequestError) -> Exception:
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            return self._unusable("has a certificate that this machine does not trust", "Correct that")
        return AgainError(_broken_off(error))

    def _refuse_failure(self, response: httpx2.Response, probing: bool) -> None:
        """Raise the error that a response of another status than success stands for."""
        status, phrase = response.status_code, f"{response.status_code} {response.reason_phrase}".strip()
        if 300 <= status < 400:
            where = self._hidden(response.headers.get("location", "elsewhere"))[:200]
            raise self._unusable(f"redirects to {where}, which is not followed", "If you trust that, name it as 'url'")
        if status in (401, 403):
            env = self.variant.api_key_env
            raise self._unusable(
                f"refuses access ({phrase})",
                f"See that {env} holds its key" if env else "Name the variable that holds its key as 'api_key_env'",
            )
        if status in BUSY or (status >= 500 and not (probing and status in (500, 501))):
            raise AgainError(f"answers {phrase}{self._said(response)}", _retry_after(response))
        if status >= 400:
            said = self._said(response)
            text = f"Variant '{self.variant.name}': the server at {self.url} refuses a request ({phrase}{said})."
            raise RefusedError(text, status, f"{phrase}{said}")

    def _new_client(self) -> httpx2.AsyncClient:
        headers = {"Authorization": f"Bearer {self._key}"} if self._key else {}
        unlimited = httpx2.Limits(max_connections=None)
        return httpx2.AsyncClient(headers=headers, timeout=TIMEOUT, limits=unlimited, trust_env=False)

    def _unusable(self, what: str, remedy: str) -> InputError:
        return InputError(f"Variant '{self.variant.name}': the server at {self.url} {what}. {remedy}.")

    def _said(self, response: httpx2.Response) -> str:
        """Return the server's own message with a colon before it, or nothing."""
        try:
            found = response.json()
        except (ValueError, RecursionError):
            return ""
        for key in ("error", "message", "detail"):
            found = found.get(key, found) if isinstance(found, dict) else found
        return f": {self._hidden(' '.join(found.split())[:160])}" if isinstance(found, str) and found.strip() else ""

    def _hidden(self, text: str) -> str:
        """Return a text of the server's without the key, should it repeat it."""
        return text.replace(self._key, "***") if self._key else text


def _key(variant: Variant) -> str | None:
    if variant.api_key_env is None:
        return None
    key = os.environ.get(variant.api_key_env, "").strip()
    if not key or not key.isascii():
        raise InputError(
            f"Variant '{variant.name}': the environment variable {variant.api_key_env} does not hold its server's key."
        )
    return key


def _wait(attempt: int, asked: float | None) -> float:
    if asked is not None:
        return min(asked, LONGEST_WAIT)
    return min(FIRST_WAIT * 2.0**attempt, LONGEST_WAIT) * random.uniform(0.75, 1.25)


def _retry_after(response: httpx2.Response) -> float | None:
    """Return the seconds that the server asks to wait; None if it states none, or a date."""
    stated = response.headers.get("retry-after", "").strip()
    return float(stated) if stated.isdecimal() and stated.isascii() else None


def _broken_off(error: httpx2.RequestError) -> str:
    if isinstance(error, httpx2.ConnectError | httpx2.ConnectTimeout):
        return UNREACHABLE
    if isinstance(error, httpx2.TimeoutException):
        return f"sends nothing for {TIMEOUT.read:g} s"
    return "breaks off its answer"
