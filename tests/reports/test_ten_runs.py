"""The first screen of ten runs as they happen: may it ship, why, and what now, in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.store.folder import RunFolder
from reports.decision import decide
from reports.headline import headline
from reports.next_command import next_command
from reports.next_step import next_step
from reports.render import render
from reports.tiles import Tile, tiles
from reports.view import RunView, read_view
from tests.reports.conftest import Browser
from tests.reports.ten_runs import RUNS


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    root = tmp_path_factory.mktemp("ten")
    return {name: build(root / name) for name, build in RUNS.items()}


@pytest.fixture(scope="module")
def views(runs: dict[str, RunFolder]) -> dict[str, RunView]:
    return {name: read_view(folder) for name, folder in runs.items()}


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("clear-win", "Ship: all 3 checks of release-thresholds.yaml pass"),
        (
            "loss",
            "Do not ship: ROUGE-L fell from 0.355 to 0.202 (−0.153, 95 % −0.157 to −0.149); at most −0.01 is allowed",
        ),
        ("tie", "No gate: by ROUGE-L, 200 dialogues cannot tell the adapter from the base"),
        ("tiny", "Not yet: unsupported medication was measured on 8 dialogues, and its check requires 100"),
        ("one-up-one-down", "No gate: the measures disagree about the adapter: ROUGE-L is better and nll is worse"),
        ("empty-adapter", "Not yet: a sanity check failed: “adapter changes the logits” (adapter)"),
        ("looping-adapter", "Do not ship: Looping reply: 80 % (95 % 74 to 85); at most 10 % is allowed"),
        (
            "cut-replies",
            "No gate: the numbers speak against the adapter: it does not finish 70\u00a0% of its replies within the "
            "limit (before: 10\u00a0%)",
        ),
        (
            "refusing-base",
            "No gate: the base declines to answer 95\u00a0% of the questions, so this comparison says little about the "
            "adapter",
        ),
        ("failed-by-safety", "Do not ship: Unsupported medication: 99 % (95 % 96 to 100); at most 30 % is allowed"),
    ],
)
def test_the_first_line_says_whether_it_may_ship_and_why(views: dict[str, RunView], name: str, line: str) -> None:
    decided = decide(views[name])
    assert f"{decided.word}: {decided.reason}" == line


@pytest.mark.parametrize(
    ("name", "step", "command"),
    [
        ("clear-win", "have a person review the adapter", 'baseline accept RUN --name main --reason "…"'),
        ("loss", "“overlap-not-worse” failed", "gate RUN --thresholds release-thresholds.yaml --explain overlap-not"),
        ("tie", "Keep the base for now", "thresholds init RUN"),
        ("tiny", "require at least 100 held-out dialogues", "run release.yaml --limit 100 --out RUN-100"),
        ("one-up-one-down", "Decide which measure counts", "thresholds init RUN"),
        ("empty-adapter", "Fix what the sanity check found", "run release.yaml --out RUN"),
        ("looping-adapter", "“no-loops” failed", "gate RUN --thresholds release-thresholds.yaml --explain no-loops"),
        ("cut-replies", "before the form of its replies is repaired", "thresholds init RUN"),
        ("refusing-base", "Compare the adapter with a variant that answers", "thresholds init RUN"),
        ("failed-by-safety", "“medications” failed", "gate RUN --thresholds release-thresholds.yaml --explain medic"),
    ],
)
def test_the_first_screen_says_what_to_do_and_with_which_command(
    views: dict[str, RunView], name: str, step: str, command: str
) -> None:
    view = views[name]
    assert step in next_step(view)[0]
    found = next_command(view)
    assert found
    assert found.line.replace(view.folder.root.name, "RUN", 1).startswith(f"python -m harness {command}")


def tile(view: RunView, title: str) -> Tile:
    return next(tile for tile in tiles(view) if tile.title == title)


@pytest.mark.parametrize(
    ("name", "title", "value", "sign"),
    [
        ("clear-win", "Quality", "+0.12", "better"),
        ("loss", "Quality", "−0.15", "worse"),
        ("tie", "Quality", "−0.003", "undecided"),
        ("one-up-one-down", "Quality", "+0.08", "mixed"),
        ("refusing-base", "Quality", "+0.30", "says little"),
        ("looping-adapter", "Form", "80\u00a0%", "worse"),
        ("cut-replies", "Form", "70\u00a0%", "worse"),
        ("failed-by-safety", "Safety rules", "50\u00a0% → 99\u00a0%", "fails its check"),
        ("clear-win", "Latency", "1.61\u00a0×", "worse"),
    ],
)
def test_the_tiles_show_what_is_bad_as_bad(
    views: dict[str, RunView], name: str, title: str, value: str, sign: str
) -> None:
    found = tile(views[name], title)
    assert (found.value, found.sign and found.sign.word) == (value, sign)


@pytest.mark.parametrize("name", RUNS)
def test_the_headline_has_at_most_two_sentences_and_calls_nothing_safe(views: dict[str, RunView], name: str) -> None:
    view = views[name]
    text = headline(view, decide(view))
    assert 1 <= text.count(". ") + 1 <= 2
    assert "safe " not in text


def test_a_rise_that_the_gate_did_not_look_at_is_in_the_headline(tmp_path: Path) -> None:
    folder = RUNS["failed-by-safety"](tmp_path / "run")
    (folder.root / "gate.json").unlink()
    view = read_view(folder)
    assert decide(view).reason == (
        "the adapter's replies are closer to the references, but unsupported medication rose from 50\u00a0% to "
        "99\u00a0%"
    )
    sign = tile(view, "Safety rules").sign
    assert sign
    assert sign.word == "worse"


@pytest.mark.parametrize("name", RUNS)
def test_no_page_but_that_of_a_passed_gate_says_ship(runs: dict[str, RunFolder], name: str) -> None:
    assert ("</span> Ship:" in render(runs[name])) == (name == "clear-win")


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_needs_no_scrolling(browser: Browser, runs: dict[str, RunFolder], scheme: str) -> None:
    ends = """return [...document.querySelectorAll('.decision, .sentence, .tiles, .next')]
        .map((element) => element.getBoundingClientRect().bottom)"""
    for name, folder in runs.items():
        bottoms = browser.open(render(folder), scheme=scheme).execute_script(ends)
        assert len(bottoms) == 4, name
        assert max(bottoms) <= 800, name
