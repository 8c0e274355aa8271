"""The page in a real browser: opened from a file, with no network."""

from __future__ import annotations

import pytest

from reports.escape import visible
from tests.reports.conftest import Browser, skip_unless_ci
from tests.reports.hostile import ALL

pytestmark = pytest.mark.browser


def test_opens_without_console_messages_or_requests(browser: Browser, page: str) -> None:
    browser.open(page)
    console, asked = browser.logs()
    assert console == []
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []


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
    assert values == sorted(values)
    assert driver.execute_script("return document.querySelector('.comparison tbody').rows[0].className") == "group"


def shown(driver: object) -> int:
    return len(driver.find_elements("css selector", "#cards > .card:not([hidden])"))  # type: ignore[attr-defined]


def settle(driver: object) -> None:
    driver.execute_async_script("setTimeout(arguments[0], 250)")  # type: ignore[attr-defined]


def test_search_keeps_the_dialogues_with_the_words(browser: Browser, page: str) -> None:
    driver = browser.open(page)
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
    driver = browser.open(page)
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
    driver = browser.open(page)
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

    driver = browser.open(page)
    summary = driver.find_elements("css selector", "#cards .card > summary")[1]
    summary.send_keys(Keys.ENTER)
    assert driver.find_elements("css selector", "#cards .card")[1].get_attribute("open") is not None


def test_without_javascript_everything_can_be_read(browser: Browser, page: str) -> None:
    driver = browser.open(page, javascript=False)
    assert not driver.find_element("id", "filters").is_displayed()
    assert driver.find_element("id", "sentence").is_displayed()
    assert len(driver.find_elements("css selector", "#cards > .card")) == 120
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
