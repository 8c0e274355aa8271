"""One made-up run, one hostile one, their pages, and one browser for all tests of the page."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from harness.store.folder import RunFolder
from reports.render import render
from tests.reports.hostile import ALL
from tests.reports.sample_run import Sample, build_sample_run

AXE_VERSION = "4.11.0"
BUILD = Path(__file__).resolve().parents[2] / "build"


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return build_sample_run(tmp_path_factory.mktemp("runs") / "sample")


@pytest.fixture(scope="session")
def page(sample: RunFolder) -> str:
    return render(sample)


@pytest.fixture(scope="session")
def small_page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same sections with few dialogues, for what takes long on many elements."""
    return render(build_sample_run(tmp_path_factory.mktemp("runs") / "small", Sample(dialogues=6)))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = tmp_path_factory.mktemp("runs") / "<img src=x onerror=window.PWNED=1>"
    return build_sample_run(folder, Sample(dialogues=60, hostile=ALL))


@pytest.fixture(scope="session")
def hostile_page(hostile: RunFolder) -> str:
    return render(hostile)


@dataclass
class Browser:
    """Headless Chromium without a network."""

    driver: Any
    folder: Path
    made: int = 0

    def open(self, html: str, *, width: int = 1280, scheme: str = "light", javascript: bool = True) -> Any:
        """Show a page from a file and return the driver; what the browser logged before is thrown away."""
        from tests.reports.screenshots import set_view

        self.made += 1
        path = self.folder / f"page-{self.made}.html"
        path.write_text(html, encoding="utf-8")
        set_view(self.driver, width, scheme)
        self.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not javascript})
        self.logs()
        self.driver.get(path.as_uri())
        return self.driver

    def logs(self) -> tuple[list[str], list[str]]:
        """Return console messages and the addresses that were asked for, since the last call."""
        import json

        console = [entry["message"] for entry in self.driver.get_log("browser")]
        asked = []
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                asked.append(message["params"]["request"]["url"])
        return console, asked


def skip_unless_ci(reason: str) -> NoReturn:
    """Skip the test on a machine that lacks what it needs; fail in CI, where nothing of the page goes untested."""
    if os.environ.get("CI"):
        pytest.fail(f"{reason}, and CI must not skip the tests of the page")
    pytest.skip(reason)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if not (Path("/usr/bin/chromium").exists() and Path("/usr/bin/chromedriver").exists()):
        skip_unless_ci("Debian's chromium and chromium-driver are not installed")
    from tests.reports.screenshots import browser as start

    with start() as driver:
        driver.set_script_timeout(240)  # a busy machine is no failure of the page
        yield Browser(driver, tmp_path_factory.mktemp("pages"))


@pytest.fixture(scope="session")
def axe() -> str:
    """The accessibility checker's script, from the npm registry."""
    script = BUILD / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    if not script.exists():
        npm = shutil.which("npm")
        if npm is None:
            skip_unless_ci("npm is not installed")
        command = [npm, "install", f"axe-core@{AXE_VERSION}", "--prefix", str(BUILD / "axe"), "--no-audit", "--no-fund"]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=180)
        assert done.returncode == 0, done.stderr
    return script.read_text(encoding="utf-8")
