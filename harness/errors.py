"""The errors a user may meet. Each message says, in one or two sentences, what is wrong, where, and what to do.

Each class carries the exit code of the command line, so that only ``cli`` files know of the terminal and every
other module just raises; ``guarded`` is where both command lines turn what was raised into a sentence and a code.
"""

from __future__ import annotations

import difflib
import errno
import importlib.util
import os
import sys
from collections.abc import Callable, Iterable, Sequence


class HarnessError(Exception):
    """A measurement that should be there is not, or could not be made (exit code 4)."""

    exit_code: int = 4


class InputError(HarnessError):
    """Wrong usage, or a file that cannot be used (exit code 2)."""

    exit_code = 2


# The disk and not the path is at fault: work that stops so is incomplete (exit code 4), not wrongly asked for.
_DISK_FAILED = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}


def file_error(error: Exception) -> HarnessError | None:
    """Return the sentence for a file that could not be read or written, where no place has better words for it.

    None for an error that is of no file. A package that is not installed is a missing file too.
    """
    if isinstance(error, ModuleNotFoundError):
        return missing_package(error)
    if not isinstance(error, OSError) or not (error.filename or error.errno in _DISK_FAILED):
        return None
    what = f"{error.filename or 'A file'}: {error.strerror}."
    if error.errno in _DISK_FAILED:
        return HarnessError(f"{what} Make room and run the same command again.")
    return InputError(f"{what} Check the path and your rights there.")


def first_line(error: BaseException, limit: int = 160) -> str:
    """Return what a library's error says, fit for a sentence of ours: its first line, or its type where it is mute."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:limit].rstrip(".")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


INTERRUPTED = 130
DEBUG_HELP = "With --debug, an error shows its traceback."


def guarded(command: Callable[[list[str]], object], arguments: Sequence[str], *, interrupted: str) -> int:
    """Run a command line and return its exit code; what it raises becomes one sentence on standard error.

    ``command`` returns an exit code, or anything else for 0. With ``--debug`` among the arguments (which it is not
    given) or HARNESS_DEBUG set, errors are raised as they are. ``interrupted`` is said after Ctrl-C.
    """
    debug = asks_for_debug(arguments)
    try:
        result = command([argument for argument in arguments if argument != "--debug"])
    except KeyboardInterrupt:
        result = INTERRUPTED
    except Exception as error:
        show = getattr(error, "show", None)
        if callable(show):  # wrong usage, which the command-line parser explains itself
            show()
            return int(getattr(error, "exit_code", 2))
        if debug:
            raise
        code, sentence = _explained(error)
        print(f"Error: {sentence}", file=sys.stderr)
        return code
    if result == INTERRUPTED:  # typer turns Ctrl-C into this code without a word
        print(interrupted, file=sys.stderr)
    return result if isinstance(result, int) else 0


def asks_for_debug(arguments: Sequence[str]) -> bool:
    """Return whether tracebacks are wanted."""
    return "--debug" in arguments or bool(os.environ.get("HARNESS_DEBUG"))


def _explained(error: Exception) -> tuple[int, str]:
    known = error if isinstance(error, HarnessError) else file_error(error)
    if known is not None:
        return known.exit_code, str(known)
    advice = "This should not happen; run it again with --debug to see where."
    return HarnessError.exit_code, f"{type(error).__name__}: {first_line(error, 300)}. {advice}"


# --- optional dependencies ------------------------------------------------------------------------------------------
# By import name, as in pyproject.toml. An extra comes with those before it that it builds on.
PACKAGES = {
    "run": (
        "torch", "transformers", "peft", "accelerate", "bitsandbytes", "datasets", "datasketch", "evaluate",
        "huggingface_hub", "pandas", "pyarrow", "pynvml", "safetensors", "tokenizers",
    ),
    "train": ("trl",),
    "meaning": ("sentence_transformers",),
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
