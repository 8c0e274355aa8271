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
    """Write the three files, each in one step; raise HarnessError where the folder takes none."""
    write_model(folder.root / "gate.json", result)
    write_text_atomically(folder.root / "gate.junit.xml", junit(result))
    write_text_atomically(folder.root / "gate.md", markdown(result))


def clear(folder: RunFolder) -> None:
    """Remove what an earlier gate left, so that an error now cannot be read as that one's pass."""
    for name in FILES:
        try:
            (folder.root / name).unlink(missing_ok=True)
        except OSError as error:
            raise HarnessError(f"Cannot replace {folder.root / name}: {error.strerror}.") from error


def read(path: Path) -> GateResult:
    """Return a ``gate.json``; raise OSError or ValueError (pydantic's ValidationError is one) where it is none."""
    return GateResult.model_validate_json(path.read_bytes())
