"""What 1,000 replies cost, on the page: with a price, in its currency, by batch size."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.app import main
from harness.results.cost import Price
from harness.store.folder import RunFolder
from reports.cost_view import cost_table
from reports.view import read_view

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "run"


def test_every_variant_has_a_row_and_every_batch_a_column() -> None:
    view = read_view(RunFolder(GOLDEN))
    table = cost_table(view, Price(2.5, "EUR"))
    assert table is not None
    assert (table.price, table.conditions) == ("2.50 EUR", ("batch 1, eager", "batch 2, eager"))
    assert [row.variant for row in table.rows] == list(view.variants)
    rate = view.summary.metrics["latency.tokens_per_s"].variants["base"].value
    tokens = [row.reply_tokens or 0 for row in RunFolder(GOLDEN).replies("base")]
    by_hand = 1000 * sum(tokens) / len(tokens) / (rate or 0) / 3600 * 2.5
    assert float(table.rows[0].cells[0][0]) == pytest.approx(by_hand, abs=0.006)


def test_without_a_price_nothing_is_said(tmp_path: Path) -> None:
    assert cost_table(read_view(RunFolder(GOLDEN))) is None
    assert main(["report", str(GOLDEN), "--out", str(tmp_path / "page.html")]) == 0
    assert "replies cost" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_a_price_given_to_the_command_is_on_the_page(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["report", str(GOLDEN), "--out", str(tmp_path / "page.html"), "--price-per-gpu-hour"]
    assert main([*command, "2.5", "--currency", "CHF"]) == 0
    assert "2.50 CHF for an hour" in (tmp_path / "page.html").read_text(encoding="utf-8")
    for wrong in ("0", "-1", "nan", "inf"):
        assert main([*command, wrong]) == 2
        assert "must be a number above 0" in capsys.readouterr().err
