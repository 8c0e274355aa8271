"""The errors a user may meet. Each message says, in one or two sentences, what is wrong, where, and what to do.

Each class carries the exit code of the command line, so that only ``cli`` files know of the terminal and every
other module just raises.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class HarnessError(Exception):
    """A measurement that should be there is not, or could not be made (exit code 4)."""

    exit_code: int = 4


class InputError(HarnessError):
    """Wrong usage, or a file that cannot be used (exit code 2)."""

    exit_code = 2


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known name nearest to ``word``, or an empty string."""
    nearest = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""
