"""Charts as SVG that may stand in a page with a strict policy."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from harness.store.folder import RunFolder
from reports.charts import draw
from reports.figures.chart import Chart
from reports.figures.svg import Picture
from reports.view import read_view

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def charts(sample: RunFolder) -> list[Chart]:
    drawn = draw(read_view(sample))
    return [chart for charts in drawn.sections.values() for chart in charts]


def test_every_chart_of_the_issue_is_there(charts: list[Chart]) -> None:
    keys = {chart.key for chart in charts}
    expected = {
        "forest-0", "wins", "values-safety", "divergence", "tpot-eager", "ttft-eager",
        "throughput-eager", "roofline", "memory", "training", "pareto-time", "pareto-memory",
    }  # fmt: skip
    assert expected <= keys


def test_charts_carry_no_style_attribute_and_no_script(charts: list[Chart]) -> None:
    for chart in charts:
        root = ElementTree.fromstring(str(chart.svg))
        names = {element.tag.removeprefix(SVG) for element in root.iter()}
        attributes = {name for element in root.iter() for name in element.attrib}
        assert names <= {"svg", "path", "rect", "circle", "text", "title", "desc"}
        assert not {name for name in attributes if name == "style" or name.startswith("on")}


def test_each_chart_has_a_name_a_description_and_its_numbers(charts: list[Chart]) -> None:
    for chart in charts:
        root = ElementTree.fromstring(str(chart.svg))
        assert root.get("role") == "img"
        assert root.find(f"{SVG}title").text == chart.title  # type: ignore[union-attr]
        assert len(root.find(f"{SVG}desc").text or "") > 40  # type: ignore[union-attr]
        assert chart.rows
        assert all(len(row) == len(chart.headers) for row in chart.rows)


def test_ids_never_clash_and_references_resolve(charts: list[Chart]) -> None:
    seen: set[str] = set()
    for chart in charts:
        root = ElementTree.fromstring(str(chart.svg))
        ids = [element.get("id") for element in root.iter() if element.get("id")]
        assert len(ids) == len(set(ids))
        assert not seen & set(ids)
        seen |= {name for name in ids if name}
        told = [*(root.get("aria-labelledby") or "").split(), *(root.get("aria-describedby") or "").split()]
        assert set(told) == set(ids)


def test_text_stays_text_and_every_colour_is_the_style_sheets(charts: list[Chart]) -> None:
    for chart in charts:
        root = ElementTree.fromstring(str(chart.svg))
        assert root.find(f".//{SVG}text") is not None
        for element in root.iter():
            assert element.get("fill", "none") == "none"
            assert element.get("stroke", "none") == "none"


def test_the_same_run_gives_the_same_pictures(sample: RunFolder, charts: list[Chart]) -> None:
    again = draw(read_view(sample)).sections["differences"][0]
    assert again.svg == next(chart.svg for chart in charts if chart.key == again.key)


def test_text_in_a_picture_is_escaped_and_never_taken_for_mathematics() -> None:
    picture = Picture(100, 50)
    picture.text(1, 2, "</text><script>x</script> $\\frac{")
    svg = str(picture.svg("t", "a <b> title", "about \ud800"))
    assert "<script" not in svg
    assert "$\\frac{" in svg
    assert "a &lt;b&gt; title" in svg
    assert "about ⟨U+D800⟩" in svg


def test_absent_measurements_are_said_in_words(tmp_path: object) -> None:
    from tests.reports.small_view import compared, make_view

    drawn = draw(make_view(compared("quality.rouge_l", "better", 0.1)))
    assert {"safety", "fidelity", "latency", "memory", "training", "slices"} <= set(drawn.absent)
    assert drawn.absent["latency"] == "latency"
