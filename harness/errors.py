"""The errors a user may meet. Each message says, in one or two sentences, what is wrong, where, and what to do.

Each class carries the exit code of the command line, so that only ``cli`` files know of the terminal and every
other module just raises.
"""

from __future__ import annotations

import difflib
import errno
from collections.abc import Iterable


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
        from harness.extras import missing_package

        return missing_package(error)
    if not isinstance(error, OSError) or not (error.filename or error.errno in _DISK_FAILED):
        return None
    what = f"{error.filename or 'A file'}: {error.strerror}."
    if error.errno in _DISK_FAILED:
        return HarnessError(f"{what} Make room and run the same command again.")
    return InputError(f"{what} Check the path and your rights there.")


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
