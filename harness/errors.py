"""The errors a user may see. Each message says, in one or two sentences, what is wrong, where, and what to do.

Each class carries the command line's exit code, so only ``cli`` modules deal with the terminal and every other module
just raises; ``guarded`` turns exceptions into a message and an exit code for both command lines.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress


class HarnessError(Exception):
    """A measurement is missing or could not be made (exit code 4)."""

    exit_code: int = 4


class InputError(HarnessError):
    """Wrong usage or an unusable file (exit code 2)."""

    exit_code = 2


# The disk is at fault, not the path: the work is incomplete (exit code 4), the request was valid.
_DISK_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def file_error(error: BaseException) -> HarnessError | None:
    """Return a generic error for a file that could not be read or written; None if ``error`` is not about a file.

    A package that is not installed counts as a missing file.
    """
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if not isinstance(error, OSError) or not (error.filename or error.errno in _DISK_FAILED):
        return None
    what = f"{error.filename or 'A file'}: {error.strerror}."
    if error.errno in _DISK_FAILED:
        return HarnessError(f"{what} Free some space and run the same command again.")
    return InputError(f"{what} Check the path and its permissions.")


def text_of(error: BaseException) -> str:
    """Return an error as a user reads it: our own message, one about a file, or a library's error with its type."""
    known = error if isinstance(error, HarnessError) else file_error(error)
    return str(known) if known else f"{type(error).__name__}: {first_line(error, 300)}."


def first_line(error: BaseException, limit: int = 160) -> str:
    """Return the first line of a library's error message for use in one of ours, or its type if it has no message."""
    if "trust_remote_code" in str(error):  # transformers and sentence-transformers advise to pass it, at length
        return "it needs Python code that comes with it, and such code is never run"
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:limit].rstrip(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name closest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


INTERRUPTED = 130
DEBUG_HELP = "Use --debug to show the traceback of an error."


def guarded(command: Callable[[list[str]], object], arguments: Sequence[str], *, interrupted: str) -> int:
    """Run a command line and return its exit code; exceptions become one message on standard error.

    ``command`` returns an exit code, or anything else for 0. With ``--debug`` among the arguments (it is removed
    before the call) or HARNESS_DEBUG set, exceptions propagate. ``interrupted`` is printed after Ctrl-C, SIGTERM or
    SIGHUP. What standard output cannot encode is printed as ``?``.
    """
    debug = debug_requested(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    stopped: list[int] = []
    try:
        with _interrupting_signals(stopped):
            result = command([argument for argument in arguments if argument != "--debug"])
    except KeyboardInterrupt:
        result = INTERRUPTED
    except SystemExit as ended:
        if ended.code != 1:
            raise
        # The command-line parser's answer to a closed pipe, which would say that a gate failed.
        print("Error: Standard output was closed before everything was written to it.", file=sys.stderr)
        return HarnessError.exit_code
    except Exception as error:
        if stopped:  # the terminal is gone after SIGHUP, so that even printing may fail
            return _interrupted(interrupted)
        show = getattr(error, "show", None)
        if callable(show):  # a usage error, which the command-line parser explains itself
            show()
            return int(getattr(error, "exit_code", 2))
        if debug:
            raise
        known = error if isinstance(error, HarnessError) else file_error(error)
        advice = "" if known else " This is a bug; run the command again with --debug to see where it happened."
        print(f"Error: {text_of(error)}{advice}", file=sys.stderr)
        return (known or HarnessError).exit_code
    if result == INTERRUPTED:  # typer silently turns Ctrl-C into this code
        return _interrupted(interrupted)
    return result if isinstance(result, int) else 0


def _interrupted(message: str) -> int:
    with suppress(OSError):
        print(message, file=sys.stderr, flush=True)
    return INTERRUPTED


@contextmanager
def _interrupting_signals(stopped: list[int]) -> Iterator[None]:
    """Let SIGTERM and SIGHUP interrupt as Ctrl-C does, and add them to ``stopped``.

    A signal that is ignored (``nohup``) or has a handler already keeps it.
    """

    def interrupt(number: int, _: object) -> None:
        stopped.append(number)
        raise KeyboardInterrupt

    known = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    main = threading.current_thread() is threading.main_thread()  # no other thread may set handlers
    ours = [number for number in known if main and signal.getsignal(number) is signal.SIG_DFL]
    for number in ours:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number in ours:
            signal.signal(number, signal.SIG_DFL)


def debug_requested(arguments: Sequence[str]) -> bool:
    """Return whether the user asked for tracebacks."""
    return "--debug" in arguments or bool(os.environ.get("HARNESS_DEBUG"))


# --- optional dependencies ------------------------------------------------------------------------------------------
# By import name, as in pyproject.toml. An extra comes with those before it that it builds on.
PACKAGES = {
    "run": (
        "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "datasketch", "evaluate",
        "huggingface_hub", "pandas", "pyarrow", "pynvml", "safetensors", "tokenizers",
    ),
    "train": ("trl",),
    "meaning": ("sentence_transformers",),
    "served": ("httpx2",),
    "export": ("alembic", "mlflow", "sqlalchemy", "trackio", "wandb"),
}  # fmt: skip
# What a command cannot even start without; the rest is needed by some models, data or metrics only.
ESSENTIAL = {"run": ("torch", "transformers", "peft"), "train": ("torch", "transformers", "peft", "trl")}


def require(extra: str, command: str) -> None:
    """Raise InputError naming the extra if one of its essential packages is not installed."""
    if any(importlib.util.find_spec(package) is None for package in ESSENTIAL[extra]):
        raise InputError(f"{command} needs the extra '{extra}': {_install(extra)}.")


def missing_package(error: ModuleNotFoundError) -> InputError | None:
    """Return the sentence for a package that could not be imported; None if no extra would bring it."""
    package = (error.name or "").partition(".")[0]
    for extra, packages in PACKAGES.items():
        if package in packages:
            return InputError(
                f"The package {package} is not installed. It comes with the extra '{extra}': {_install(extra)}."
            )
    return None


def _install(extra: str) -> str:
    return f"pip install 'medical-dialogue-harness[{extra}]'"
