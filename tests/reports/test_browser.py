"""The page in a real browser: opened from a file, with no network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from reports.dialogue_cards import Shown
from reports.escape import visible
from reports.render import render
from tests.reports.conftest import Browser, skip_unless_ci
from tests.reports.hostile import ALL
from tests.reports.sample_run import Sample, build_sample_run

pytestmark = pytest.mark.browser


def test_opens_without_console_messages_or_requests(browser: Browser, page: str) -> None:
    browser.open(page)
    console, asked = browser.logs()
    assert console == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


def unfold(browser: Browser, page: str) -> Any:
    """Show a page with the list of its dialogues open."""
    driver = browser.open(page)
    driver.find_element("css selector", "#dialogues > .fold > summary").click()
    return driver


def column(driver: object, selector: str) -> list[str]:
    return [cell.text for cell in driver.find_elements("css selector", selector)]  # type: ignore[attr-defined]


def test_a_header_sorts_its_table_both_ways_and_says_so(browser: Browser, page: str) -> None:
    driver = browser.open(page)
    header = driver.find_element("css selector", ".checks thead th:nth-child(1)")
    rows = ".checks tbody tr th .name"
    before = column(driver, rows)
    header.find_element("tag name", "button").click()
    assert header.get_attribute("aria-sort") == "ascending"
    assert column(driver, rows) == sorted(before)
    header.find_element("tag name", "button").click()
    assert header.get_attribute("aria-sort") == "descending"
    assert column(driver, rows) == sorted(before, reverse=True)


def test_numbers_sort_as_numbers_within_their_group(browser: Browser, page: str) -> None:
    driver = browser.open(page)
    driver.find_element("css selector", ".comparison thead th:nth-child(2) button").click()
    script = """return [...document.querySelector('.comparison tbody').rows]
        .slice(1).map((row) => Number(row.cells[1].dataset.order))"""
    values = driver.execute_script(script)
    assert len(values) > 2
    assert values == sorted(values)
    assert driver.execute_script("return document.querySelector('.comparison tbody').rows[0].className") == "group"


def shown(driver: object) -> int:
    return len(driver.find_elements("css selector", "#cards > .card:not([hidden])"))  # type: ignore[attr-defined]


def settle(driver: object) -> None:
    driver.execute_async_script("setTimeout(arguments[0], 250)")  # type: ignore[attr-defined]


def test_search_keeps_the_dialogues_with_the_words(browser: Browser, page: str) -> None:
    driver = unfold(browser, page)
    assert shown(driver) == 120
    driver.find_element("id", "f-text").send_keys("Shingles")
    settle(driver)
    assert shown(driver) == 10
    assert driver.find_element("id", "f-count").text == "10 of 120 dialogues match"


def choose(driver: object, field: str, text: str) -> None:
    from selenium.webdriver.support.ui import Select

    Select(driver.find_element("id", field)).select_by_visible_text(text)  # type: ignore[attr-defined]
    settle(driver)


def test_filters_by_rule_variant_and_slice(browser: Browser, page: str) -> None:
    driver = unfold(browser, page)
    choose(driver, "f-flag", "contradicted dose")
    anyone = shown(driver)
    assert 0 < anyone < 120
    choose(driver, "f-variant", "base")
    assert 0 < shown(driver) < anyone
    assert (
        driver.find_elements("css selector", '.card:not([hidden]) .reply:not([hidden]):not([data-variant="0"])') == []
    )
    choose(driver, "f-flag", "any or none")
    choose(driver, "f-level", "source: helpline")
    assert shown(driver) == 40


def test_orders_dialogues_by_difference_both_ways(browser: Browser, page: str) -> None:
    driver = unfold(browser, page)
    script = "return [...document.querySelectorAll('#cards > .card')].map((card) => Number(card.dataset.order))"
    assert driver.execute_script(script) == sorted(driver.execute_script(script))
    choose(driver, "f-order", "highest difference first")
    assert driver.execute_script(script) == sorted(driver.execute_script(script), reverse=True)


def test_copies_the_markdown_summary(browser: Browser, page: str) -> None:
    driver = browser.open(page)
    driver.find_element("css selector", ".copyable summary").click()
    button = driver.find_element("css selector", ".copyable button.copy")
    button.click()
    settle(driver)
    assert button.text in {"Copied", "Selected: press Ctrl+C"}


def test_keyboard_alone_opens_a_dialogue(browser: Browser, page: str) -> None:
    from selenium.webdriver.common.keys import Keys

    driver = unfold(browser, page)
    summary = driver.find_elements("css selector", "#cards .card > summary")[1]
    summary.send_keys(Keys.ENTER)
    assert driver.find_elements("css selector", "#cards .card")[1].get_attribute("open") is not None


def test_without_javascript_everything_can_be_read(browser: Browser, page: str) -> None:
    driver = browser.open(page, javascript=False)
    assert not driver.find_element("id", "filters").is_displayed()
    assert driver.find_element("id", "sentence").is_displayed()
    assert len(driver.find_elements("css selector", "#cards > .card")) == 120
    for summary in driver.find_elements("css selector", ".fold > summary"):
        summary.click()
    card = driver.find_elements("css selector", "#cards > .card")[2]
    card.find_element("tag name", "summary").click()
    assert all(box.is_displayed() for box in card.find_elements("css selector", ".box"))
    assert all(chart.is_displayed() for chart in driver.find_elements("css selector", "svg.chart"))


@pytest.mark.parametrize("javascript", [True, False])
def test_nothing_hostile_runs_or_becomes_markup(browser: Browser, hostile_page: str, javascript: bool) -> None:
    driver = browser.open(hostile_page, javascript=javascript)
    console, asked = browser.logs()
    browser.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert driver.execute_script("return window.PWNED === undefined")
    assert console == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    foreign = (
        "img, iframe, object, embed, video, marquee, math, base, form:not(#filters), style ~ style, script ~ script"
    )
    assert driver.find_elements("css selector", foreign) == []
    names = "[...document.querySelectorAll('*')].flatMap((element) => element.getAttributeNames())"
    assert driver.execute_script(f"return {names}.filter((name) => name.startsWith('on'))") == []


def test_every_hostile_string_reads_as_text(browser: Browser, hostile_page: str) -> None:
    driver = browser.open(hostile_page)
    text = driver.execute_script("return document.body.textContent")
    squeezed = " ".join(text.split())
    missing = [string for string in ALL if " ".join(visible(string).split()) not in squeezed]
    assert missing == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_has_no_serious_accessibility_violation(browser: Browser, small_page: str, axe: str, scheme: str) -> None:
    driver = browser.open(small_page, scheme=scheme)
    driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
    driver.execute_script(axe)
    run = "axe.run(document, {resultTypes: ['violations']}).then(arguments[0], (e) => arguments[0]({error: String(e)}))"
    result = driver.execute_async_script(run)
    serious = {
        violation["id"]: [node["target"] for node in violation["nodes"][:3]]
        for violation in result["violations"]
        if violation["impact"] in {"serious", "critical"}
    }
    assert serious == {}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_a_narrow_screen(browser: Browser, hostile_page: str, page: str, scheme: str) -> None:
    for html in (page, hostile_page):
        driver = browser.open(html, width=360, scheme=scheme)
        driver.execute_script("for (const d of document.querySelectorAll('details')) d.open = true")
        assert driver.execute_script("return document.documentElement.scrollWidth") == 360


def test_words_are_not_broken_on_a_phone(browser: Browser, page: str) -> None:
    """A word of the page's own English stands on one line; what is longer than a phone is wide may break."""
    driver = browser.open(page, width=360)
    driver.execute_script("for (const d of document.querySelectorAll('details.fold, .quiet-rows')) d.open = true")
    broken = driver.execute_script("""
        const broken = new Set(), range = document.createRange();
        const texts = document.createTreeWalker(document.getElementById('main'), NodeFilter.SHOW_TEXT);
        while (texts.nextNode()) {
          const node = texts.currentNode;
          const inside = node.parentElement;
          if (!inside.checkVisibility() || inside.closest('pre, code, svg, .unseen')) continue;
          for (const word of node.data.matchAll(/(?<!\\S)[\\p{L}\\p{N}.,:;%()−+×]{2,18}(?!\\S)/gu)) {
            range.setStart(node, word.index);
            range.setEnd(node, word.index + word[0].length);
            if (new Set([...range.getClientRects()].map((box) => Math.round(box.top))).size > 1)
              broken.add(`${word[0]} in ${node.data.trim().slice(0, 60)}`);
          }
        }
        return [...broken]""")
    assert broken == []


def test_with_many_systems_the_metrics_names_stay_in_view(browser: Browser, tmp_path: Path) -> None:
    names = ("base", "base-nf4", "adapter", "merged", "second-adapter", "third-adapter", "fourth-adapter")
    run = build_sample_run(tmp_path / "run", Sample(dialogues=12, variants=names, passes=frozenset(), gate=None))
    driver = browser.open(render(run), width=360)
    left, wide, seen = driver.execute_script("""
        const box = document.querySelector('#comparison .scroll');
        box.scrollLeft = 100000;
        const name = box.querySelector('tbody tr:nth-child(2) th');
        return [name.getBoundingClientRect().left - box.getBoundingClientRect().left,
                box.scrollWidth / box.clientWidth, box.clientWidth - name.offsetWidth]""")
    assert left == pytest.approx(1, abs=1)
    assert wide > 2
    assert seen > 150


@pytest.mark.parametrize("width", [360, 768, 1280, 1920, 2560])
def test_charts_fill_their_grid(browser: Browser, page: str, width: int) -> None:
    driver = browser.open(page, width=width)
    driver.execute_script("for (const d of document.querySelectorAll('details.fold')) d.open = true")
    shares = driver.execute_script("""
        return [...document.querySelectorAll('.plots')].map((plots) => {
          const boxes = [...plots.querySelectorAll('.plot')].map((plot) => plot.getBoundingClientRect());
          const left = Math.min(...boxes.map((box) => box.left)), right = Math.max(...boxes.map((box) => box.right));
          return (right - left) / plots.clientWidth})""")
    assert min(shares) > 0.98
    charts = """
        return [...document.querySelectorAll('.plots.several .plot')].map((plot) =>
          plot.querySelector('svg').getBoundingClientRect().width / plot.clientWidth)"""
    assert min(driver.execute_script(charts)) > 0.8


def test_a_link_to_a_folded_section_opens_it(browser: Browser, page: str) -> None:
    driver = browser.open(page, javascript=False)
    fold = driver.find_element("css selector", "#latency > details")
    assert fold.get_attribute("open") is None
    driver.find_element("css selector", ".contents a[href='#latency-in']").click()
    assert fold.get_attribute("open") is not None
    assert driver.find_element("css selector", "#latency svg.chart").is_displayed()


def test_folded_sections_are_printed(browser: Browser, page: str) -> None:
    driver = browser.open(page)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    heights = "return [...document.querySelectorAll('.fold-body')].map((body) => body.getBoundingClientRect().height)"
    printed = driver.execute_script(heights)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert len(printed) > 8
    assert min(printed) > 50


def test_the_table_of_contents_fits(browser: Browser, page: str) -> None:
    for width in (360, 1280):
        driver = browser.open(page, width=width)
        sizes = "const nav = document.querySelector('.contents'); return [nav.scrollWidth - nav.clientWidth, "
        assert driver.execute_script(f"{sizes} nav.scrollHeight - nav.clientHeight]") == [0, 0]


@pytest.mark.parametrize("words", [150, 1000])
def test_a_page_of_two_hundred_dialogues_keeps_its_budget(browser: Browser, tmp_path: Path, words: int) -> None:
    sample = Sample(dialogues=200, variants=("base", "adapter", "merged"), words=words)
    html = render(build_sample_run(tmp_path / "run", sample), shown=Shown(200, 0))
    assert html.count('<details class="card"') == 200
    assert len(html.encode()) <= 1_500_000
    driver = browser.open(html, width=1280)
    assert driver.execute_script("return document.documentElement.scrollHeight") <= 9_000


def test_colour_schemes_differ(browser: Browser, page: str) -> None:
    background = "return getComputedStyle(document.body).backgroundColor"
    light = browser.open(page, scheme="light").execute_script(background)
    dark = browser.open(page, scheme="dark").execute_script(background)
    assert light != dark


@pytest.mark.parametrize(("ci", "ends"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_browser_is_a_failure_only_in_ci(monkeypatch: pytest.MonkeyPatch, ci: str, ends: type) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(ends, match="no browser"):
        skip_unless_ci("no browser")
