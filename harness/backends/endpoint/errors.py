"""What can go wrong with a server: worth another attempt, refused, or the end of the run."""

from __future__ import annotations

from harness.errors import HarnessError


class AgainError(Exception):
    """An attempt failed in a way that may pass: the server is busy, broke off, or is being restarted.

    ``reason`` completes "the server …"; ``wait`` is how many seconds the server asked to be left alone.
    """

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait


class RefusedError(HarnessError):
    """The server refuses this request, and would again (a status from 400 to 499, or 5xx while probing)."""

    def __init__(self, message: str, status: int, said: str) -> None:
        super().__init__(message)
        self.status = status
        self.said = said


class ServerError(HarnessError):
    """The server is gone or broken; what was finished is kept (exit code 4). ``fact`` leaves out what to do."""

    def __init__(self, message: str, fact: str) -> None:
        super().__init__(message)
        self.fact = fact
