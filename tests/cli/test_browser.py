"""``report --open``: the page in a browser, or where to find it."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import pytest

from harness.cli.app import main
from tests.run_folders import make_run, random_values


def test_open_shows_the_page_that_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda address: bool(shown.append(address)) or True)
    run = make_run(tmp_path / "my run", random_values(10))
    assert main(["report", str(run.root), "--out", str(tmp_path / "page.html"), "--open"]) == 0
    assert shown == [(tmp_path / "page.html").as_uri()]


@pytest.mark.parametrize("failure", [False, webbrowser.Error("no display")])
def test_without_a_browser_the_address_is_told(
    tmp_path: Path, failure: bool | Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(address: str) -> bool:
        if isinstance(failure, Exception):
            raise failure
        return failure

    monkeypatch.setattr(webbrowser, "open", refuse)
    run = make_run(tmp_path / "run", random_values(10))
    assert main(["report", str(run.root), "--open"]) == 0
    told = capsys.readouterr().out.splitlines()[-1]
    assert told == f"There is no browser here for --open. Open the page yourself: {run.report_path.as_uri()}"
