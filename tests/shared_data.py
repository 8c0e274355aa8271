"""Where the real data and the real small model lie: beside the repository, and not part of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(os.environ.get("HARNESS_SHARED", Path(__file__).resolve().parents[2] / "shared"))


def shared(path: str) -> Path:
    """Return a file or folder of the shared data; skip the test where it is absent, but fail in CI."""
    found = ROOT / path
    if not found.exists():
        message = f"{found} is not here"
        if os.environ.get("CI"):
            pytest.fail(f"{message}, and CI must not skip tests that need it")
        pytest.skip(message)
    return found
