"""The gate's three files: ``gate.json`` for scripts, ``gate.junit.xml`` for CI readers, ``gate.md`` for people."""

from __future__ import annotations

from pathlib import Path

from harness.errors import HarnessError
from harness.files import write_model, write_text_atomically
from harness.gating.junit import junit
from harness.gating.markdown import markdown
from harness.gating.verdict import GateResult
from harness.store.folder import RunFolder

FILES = ("gate.json", "gate.junit.xml", "gate.md")


def write(folder: RunFolder, result: GateResult) -> None:
    """Write the three files, each atomically; raise HarnessError if the folder is not writable."""
    write_model(folder.root / "gate.json", result)
    write_text_atomically(folder.root / "gate.junit.xml", junit(result))
    write_text_atomically(folder.root / "gate.md", markdown(result))


def clear(folder: RunFolder) -> None:
    """Remove the files of an earlier gate, so that its pass cannot be mistaken for this one's."""
    for name in FILES:
        try:
            (folder.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise HarnessError(f"Cannot replace {folder.root / name}: {error.strerror}.") from error


def read(path: Path) -> GateResult:
    """Read a ``gate.json``; raise OSError or ValueError (including pydantic's ValidationError) if it is not valid."""
    return GateResult.model_validate_json(path.read_bytes())
