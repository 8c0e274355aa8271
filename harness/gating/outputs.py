"""The gate's three files: ``gate.json`` for scripts, ``gate.junit.xml`` for CI readers, ``gate.md`` for people.

A verdict belongs to the numbers it was given on. One on other numbers than the run has now is an error.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import HarnessError
from harness.files import write_model, write_text_atomically
from harness.gating.junit import junit
from harness.gating.markdown import markdown
from harness.gating.verdict import EXIT_CODES, GateResult
from harness.store import seals
from harness.store.folder import RunFolder

FILES = ("gate.json", "gate.junit.xml", "gate.md")
SHOW_VERDICT = ("report.html", "summary.md")
OUTDATED = "The run's numbers have changed since the gate judged them, so its verdict no longer counts. Run it again."
UNFINISHED = "The run was not finished when the gate judged it. Run the gate again."
UNKNOWN = "An earlier version judged the run, which has changed since, perhaps with its numbers. Run the gate again."


def write(folder: RunFolder, result: GateResult) -> None:
    """Replace the three files, each atomically; raise HarnessError if the folder is not writable.

    A page and a ``summary.md`` that may show another verdict are removed, and nothing is left that repeats one, before
    ``gate.json`` is replaced.
    """
    _remove(folder, FILES[1:])
    if _says_otherwise(folder, result):
        _remove(folder, SHOW_VERDICT)
    write_model(folder.root / "gate.json", result)
    write_text_atomically(folder.root / "gate.junit.xml", junit(result))
    write_text_atomically(folder.root / "gate.md", markdown(result))


def mark_outdated(folder: RunFolder) -> None:
    """Turn the verdict of a run whose numbers are about to change into an error; a damaged ``gate.json`` stays one."""
    path = folder.root / "gate.json"
    if not path.is_file():
        return
    try:
        result = read(path)
        if not _is_marked(result):
            write(folder, _without_verdict(result, UNFINISHED if _had_no_numbers(result) else OUTDATED))
    except (OSError, ValueError):
        _remove(folder, FILES[1:])


def read_current(folder: RunFolder) -> GateResult | None:
    """Return the verdict on the run's present numbers: an error for one on other numbers, None without any.

    Raises what ``read`` raises.
    """
    path = folder.root / "gate.json"
    if not path.is_file():
        return None
    result = read(path)
    current = seals.judged(folder, numbers=result.run.numbers_digest, manifest=result.run.digest)
    if current or _is_marked(result):
        return result
    if current is None:
        return _without_verdict(result, UNFINISHED if _had_no_numbers(result) else UNKNOWN)
    return _without_verdict(result, OUTDATED)


def _is_marked(result: GateResult) -> bool:
    return result.sentence in (OUTDATED, UNFINISHED)


def _had_no_numbers(result: GateResult) -> bool:
    """Return whether the run had no summary when it was judged; files of earlier versions do not have the field."""
    return result.run.numbers_digest is None and "numbers_digest" in result.run.model_fields_set


def _without_verdict(result: GateResult, why: str) -> GateResult:
    error = {"verdict": "error", "exit_code": EXIT_CODES["error"], "sentence": why, "problems": (why,)}
    return result.model_copy(update={**error, "checks": (), "warnings": ()})


def _says_otherwise(folder: RunFolder, result: GateResult) -> bool:
    """Return whether the folder's ``gate.json`` is there and says anything but the result, apart from when it did."""
    path = folder.root / "gate.json"
    try:
        return path.is_file() and read(path).model_copy(update={"created": result.created}) != result
    except (OSError, ValueError):
        return True


def _remove(folder: RunFolder, names: Iterable[str]) -> None:
    for name in names:
        try:
            (folder.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise HarnessError(f"Cannot replace {folder.root / name}: {error.strerror}.") from error


def read(path: Path) -> GateResult:
    """Read a ``gate.json``; raise OSError or ValueError (including pydantic's ValidationError) if it is not valid."""
    return GateResult.model_validate_json(path.read_bytes())
