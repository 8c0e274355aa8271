"""Runs side by side, and an earlier run beside a new one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.errors import InputError
from harness.store import seals
from harness.store.folder import RunFolder
from harness.store.schema import EstimateRow, MetricSummary
from reports.baseline import earlier_cells
from reports.compare import comparison, comparison_text, differing_settings, render_comparison
from reports.render import render
from reports.view import RunView, read_view
from tests.run_folders import change_manifest, make_run, random_values


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, RunFolder]:
    root = tmp_path_factory.mktemp("pair")
    first = make_run(root / "first", random_values(60, seed=1, gain=0.2))
    return first, make_run(root / "second", random_values(60, seed=2, gain=0.5))


def views(pair: tuple[RunFolder, RunFolder]) -> list[RunView]:
    return [read_view(folder) for folder in pair]


def test_a_run_compared_with_itself_differs_by_nothing(pair: tuple[RunFolder, RunFolder]) -> None:
    view = read_view(pair[0])
    cell = earlier_cells(view, view)["quality.nll", "adapter"]
    assert cell.sign is not None
    assert cell.sign.word == "equal"
    assert cell.change.strip("0.") == ""


def test_swapping_the_runs_turns_the_outcome(pair: tuple[RunFolder, RunFolder]) -> None:
    first, second = views(pair)
    forth = earlier_cells(second, first)["quality.nll", "adapter"]
    back = earlier_cells(first, second)["quality.nll", "adapter"]
    assert forth.sign is not None
    assert back.sign is not None
    assert (forth.sign.word, back.sign.word) == ("better", "worse")
    assert forth.change.replace("−", "+") == back.change


def test_runs_over_other_dialogues_are_not_paired(pair: tuple[RunFolder, RunFolder]) -> None:
    first, second = views(pair)
    digests = {**first.manifest.digests, seals.REFERENCES: "another"}
    other = RunView(
        first.folder, first.manifest.model_copy(update={"digests": digests}), first.summary, first.dialogues, {}, None
    )
    cell = earlier_cells(second, other)["quality.nll", "adapter"]
    assert cell.change == ""
    assert cell.obstacle == "different dialogues"


def test_memory_is_shown_without_a_difference(pair: tuple[RunFolder, RunFolder]) -> None:
    first, second = views(pair)
    memory = [cell for (name, _), cell in earlier_cells(second, first).items() if name.startswith("memory.")]
    assert all(cell.change == "" for cell in memory)


def test_the_page_shows_every_run_and_what_differs(pair: tuple[RunFolder, RunFolder]) -> None:
    page = render_comparison(pair)
    assert "2 runs side by side" in page
    assert "first" in page
    assert "second" in page
    assert "▲" in page
    assert "What else differs between the runs" in page


def test_the_first_run_is_what_others_are_held_against(pair: tuple[RunFolder, RunFolder]) -> None:
    system = next(one for one in comparison(pair).compared if one.system.name == "adapter")
    row = next(row for group in system.groups for row in group.rows if row.label == "nll")
    assert row.cells[0].earlier is None
    assert row.cells[1].earlier is not None
    assert row.cells[1].earlier.change.startswith("−0.2")


def test_settings_that_are_the_same_are_not_listed(pair: tuple[RunFolder, RunFolder]) -> None:
    assert differing_settings([read_view(pair[0])] * 2) == ()


@pytest.mark.parametrize(("now", "listed"), [("v2:" + "a" * 64, False), ("b" * 64, True)])
def test_digests_of_weights_in_two_forms_are_no_difference(
    pair: tuple[RunFolder, RunFolder], now: str, listed: bool
) -> None:
    """Those of 0.1.0 were over files and later ones are over tensors, so nobody knows."""
    view = read_view(pair[0])
    first, second = (
        replace(view, manifest=view.manifest.model_copy(update={"digests": {"weights/base": digest}}))
        for digest in ("a" * 64, now)
    )
    assert ("digests.weights/base" in [row[0] for row in differing_settings([first, second])]) is listed


def test_what_was_measured_is_no_setting(pair: tuple[RunFolder, RunFolder]) -> None:
    names = [row[0] for row in differing_settings(views(pair))]
    assert [name for name in names if "summary" in name or "replies" in name] == []


def test_the_terminal_gets_the_same_in_eighty_columns(pair: tuple[RunFolder, RunFolder]) -> None:
    text = comparison_text([*pair, *pair])
    assert max(map(len, text.splitlines())) <= 80
    assert "▲ better" in text


def test_changed_settings_are_named_and_keys_are_not_shown(tmp_path: Path) -> None:
    values = random_values(30)
    first = make_run(tmp_path / "first", values)
    second = make_run(tmp_path / "second", values, generation={"max_new_tokens": 128})
    config = {**second.read_manifest().config, "variants": [{"name": "served", "api_key_env": "MY_KEY"}]}
    change_manifest(second, config=config)
    text, page = comparison_text([first, second]), render_comparison([first, second])
    assert "  Changed: generation.max_new_tokens: 64 → 128\n" in text
    assert "  Changed: variants.served.api_key_env: not set → not shown\n" in text
    assert "<code>generation.max_new_tokens</code>: 64 → 128" in page
    assert "MY_KEY" not in text + page


def test_runs_that_asked_other_dialogues_say_so(tmp_path: Path) -> None:
    values = random_values(30)
    first = make_run(tmp_path / "first", values)
    second = make_run(tmp_path / "second", values, ids=[f"d{k:04}" for k in range(20, 50)])
    note = "It asked other dialogues than first (10 of 30 ids in common), so no differences are shown."
    assert note in " ".join(comparison_text([first, second]).split())
    assert note in render_comparison([first, second])
    assert note not in " ".join(comparison_text([first, first]).split())


def test_one_run_is_no_comparison(pair: tuple[RunFolder, RunFolder]) -> None:
    with pytest.raises(InputError, match="at least two"):
        render_comparison(pair[:1])


def test_the_report_shows_the_earlier_run_beside_it(pair: tuple[RunFolder, RunFolder], tmp_path: Path) -> None:
    page = render(pair[1], baseline=pair[0])
    assert "beside the earlier run first" in page
    assert 'class="earlier"' in page
    assert "since then" in page


def test_a_metric_of_the_runs_own_module_is_paired_without_the_module(tmp_path: Path) -> None:
    values = [random_values(60, seed=seed) for seed in (1, 2)]
    for answers, value in zip(values, (0.2, 0.5), strict=True):
        for metrics in answers.values():
            metrics["quality.asks_back"] = [value + 0.1 * (value * k % 1) for k in range(60)]
    own = MetricSummary(
        unit="asks", higher_is_better=True, signature="mine", variants={"adapter": EstimateRow(value=0.5, n=60)}
    )
    pair = []
    for name, answers in zip(("first", "second"), values, strict=True):
        view = read_view(make_run(tmp_path / name, answers))
        metrics = {**view.summary.metrics, "quality.asks_back": own}
        pair.append(replace(view, summary=view.summary.model_copy(update={"metrics": metrics})))
    cell = earlier_cells(pair[1], pair[0])["quality.asks_back", "adapter"]
    assert cell.sign is not None
    assert (cell.change[:4], cell.sign.word) == ("+0.2", "better")


def test_runs_of_one_name_are_told_apart_by_the_folders_above(tmp_path: Path) -> None:
    for place in ("yesterday", "today"):
        make_run(tmp_path / place / "quickstart" / "run", random_values(20))
    folders = [RunFolder(tmp_path / place / "quickstart" / "run") for place in ("yesterday", "today")]
    assert comparison(folders).names == ("yesterday/quickstart/run", "today/quickstart/run")
    assert comparison([folders[0]] * 2).names == ("1: yesterday/quickstart/run", "2: yesterday/quickstart/run")
