"""Pictures of a report: two widths, two colour schemes. ``python -m tests.reports.screenshots RUN_OR_HTML --out DIR``.

For people who change the page, and for the documentation. Needs Chromium with its driver, and selenium.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)


@contextmanager
def browser(*, javascript: bool = True) -> Iterator[Any]:
    """Start headless Chromium with a fresh profile and no way out to any network; quit it at the end."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    with tempfile.TemporaryDirectory() as profile:
        options = Options()
        options.binary_location = "/usr/bin/chromium"
        for flag in (
            *_FLAGS,
            f"--user-data-dir={profile}",
            "--proxy-server=127.0.0.1:9",
            "--proxy-bypass-list=<-loopback>",
        ):
            options.add_argument(flag)
        if not javascript:
            options.add_experimental_option("prefs", {"profile.managed_default_content_settings.javascript": 2})
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
        try:
            yield driver
        finally:
            driver.quit()


def set_view(driver: Any, width: int, scheme: str, height: int = 900) -> None:
    """Give the page a window and a preferred colour scheme."""
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
    )
    driver.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )


def take(page: Path, out: Path, *, widths: tuple[int, ...] = WIDTHS, most: int = 16000) -> list[Path]:
    """Write one PNG a width and scheme, of the whole page (at most ``most`` pixels high), and return their paths."""
    out.mkdir(parents=True, exist_ok=True)
    paths = []
    with browser() as driver:
        for width in widths:
            for scheme in SCHEMES:
                set_view(driver, width, scheme)
                driver.get(page.resolve().as_uri())
                height = min(most, int(driver.execute_script("return document.documentElement.scrollHeight")))
                shot = driver.execute_cdp_cmd(
                    "Page.captureScreenshot",
                    {
                        "captureBeyondViewport": True,
                        "clip": {"x": 0, "y": 0, "width": width, "height": height, "scale": 1},
                    },
                )
                path = out / f"report-{width}-{scheme}.png"
                path.write_bytes(base64.b64decode(shot["data"]))
                paths.append(path)
    return paths


def main() -> None:
    """Render the run if need be and take the pictures."""
    from harness.store.folder import RunFolder
    from reports.render import write_report

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, help="a run folder or an HTML file")
    parser.add_argument("--out", type=Path, default=Path("build/screenshots"))
    parser.add_argument("--height", type=int, default=16000, help="cut the pictures at this height")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        page: Path = arguments.page
        if page.is_dir():
            page = write_report(RunFolder(page), Path(scratch) / "report.html")
        for path in take(page, arguments.out, most=arguments.height):
            print(path)


if __name__ == "__main__":
    main()
