"""One case: a valid input, damaged as a seed says, and read; and what went wrong, if anything did."""

from __future__ import annotations

import contextlib
import io
import random
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

from harness.errors import HarnessError, file_error
from tests.fuzz.damage import random_bytes
from tests.fuzz.targets import TARGETS

SECONDS = 10.0  # no input may keep a reader busy for longer: of processor time, so that other work does not count
EXIT_CODES = {0, 1, 2, 3, 4}


def problem(name: str, number: int, seed: int = 0) -> str | None:
    """Run case ``number`` of the target ``name``; return what is wrong with the outcome, or None."""
    target = TARGETS[name]
    random_ = random.Random(f"{name} {number} {seed}")
    with tempfile.TemporaryDirectory(prefix="fuzz-") as temporary:
        folder = Path(temporary)
        target.make(folder)
        file = random_.choice(target.files)
        damage = random_.choice(target.damages)
        (folder / file).write_bytes(damage(random_, (folder / file).read_bytes()))
        errors = io.StringIO()
        try:
            with _time_limit(), contextlib.redirect_stderr(errors), contextlib.redirect_stdout(io.StringIO()):
                code = target.read(folder) or 0
        except Exception as error:
            if isinstance(error, HarnessError) or file_error(error) is not None:  # one sentence, as in ``guarded``
                return None
            return f"{name} {number}: {damage.__name__} of {file}: {type(error).__name__}: {str(error)[:300]}"
    said = errors.getvalue()
    if code not in EXIT_CODES or "Traceback" in said or "This is a bug" in said or "should not happen" in said:
        return f"{name} {number}: {damage.__name__} of {file}: exit code {code}: {said[-300:]}"
    if code == 0 and damage is random_bytes and file not in target.unread:
        return f"{name} {number}: {file} was random bytes, and the exit code is 0"
    return None


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise TimeoutError(f"took longer than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
