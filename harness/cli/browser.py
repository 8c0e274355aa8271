"""Show a page in the user's browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path


def opened(page: Path) -> str | None:
    """Open a page; return None, or where this machine has no browser a sentence with the address to open elsewhere."""
    address = page.resolve().as_uri()
    try:
        shown = webbrowser.open(address)
    except webbrowser.Error:
        shown = False
    return None if shown else f"There is no browser here for --open. Open the page yourself: {address}"
