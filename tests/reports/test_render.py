"""The page as a file."""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import html as lxml_html

import reports
from harness.errors import InputError
from harness.store.folder import RunFolder
from reports.charts import draw
from reports.dialogue_cards import Shown
from reports.escape import visible
from reports.render import render, write_report
from reports.view import read_view
from tests.reports.hostile import ALL
from tests.reports.sample_run import Sample, build_sample_run
from tests.run_folders import make_run, random_values

PACKAGE = Path(reports.__file__).parent


def parsed(page: str) -> lxml_html.HtmlElement:
    return lxml_html.document_fromstring(page)


def test_sections_stand_in_the_agreed_order(page: str) -> None:
    found = [section.get("id") for section in parsed(page).xpath("//main/section")]
    expected = [
        "worse",
        "gate",
        "comparison",
        "differences",
        "quality",
        "safety",
        "fidelity",
        "latency",
        "memory",
        "training",
    ]
    assert found == [*expected, "cost", "slices", "dialogues", "provenance", "reading"]
    targets = [href[1:].removesuffix("-in") for href in parsed(page).xpath("//nav[@class='contents']//@href")]
    assert targets == ["main", *found]
    assert parsed(page).xpath("//main/*[1]/@class")[0].startswith("verdict")


def test_needs_no_other_file(page: str) -> None:
    root = parsed(page)
    assert root.xpath("//script[@src] | //link[not(@rel='icon')] | //img | //iframe | //object") == []
    assert all(href.startswith(("#", "data:")) for href in root.xpath("//@href"))
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page


def test_the_policy_names_exactly_the_style_sheet_and_the_script(page: str) -> None:
    def digest(tag: str) -> str:
        text = re.search(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        assert text
        return base64.b64encode(hashlib.sha256(text[1].encode()).digest()).decode()

    policy = parsed(page).xpath("//meta[@http-equiv='Content-Security-Policy']/@content")[0]
    assert policy.startswith("default-src 'none'; ")
    assert f"style-src 'sha256-{digest('style')}';" in policy
    assert f"script-src 'sha256-{digest('script')}';" in policy
    assert "unsafe" not in policy


def test_no_template_trusts_data() -> None:
    for template in (PACKAGE / "templates").glob("*.html"):
        text = template.read_text(encoding="utf-8")
        assert not re.search(r"\|\s*safe|autoescape|Markup|xmlattr|\bstyle=|\son\w+=", text), template


def test_markup_is_made_only_for_charts_and_for_this_packages_own_assets() -> None:
    users = {path.name for path in PACKAGE.rglob("*.py") if re.search(r"\bMarkup\(", path.read_text(encoding="utf-8"))}
    assert users == {"svg.py", "render.py"}


def test_unknown_names_in_templates_are_errors() -> None:
    from jinja2 import StrictUndefined

    from reports.render import _environment

    environment = _environment()
    assert environment.undefined is StrictUndefined
    assert environment.autoescape is True


def test_hostile_text_stays_text(hostile_page: str) -> None:
    root = parsed(hostile_page)
    assert len(root.xpath("//script")) == 1
    assert len(root.xpath("//style")) == 1
    assert (
        root.xpath("//@*[starts-with(name(), 'on')] | //@style | //img | //iframe | //h1[contains(., 'out of')]") == []
    )
    text = " ".join(root.text_content().split())
    assert [string for string in ALL if " ".join(visible(string).split()) not in text] == []


def test_hostile_page_can_be_written_as_utf8(hostile: RunFolder, tmp_path: Path) -> None:
    written = write_report(hostile, tmp_path / "report.html")
    assert written.read_text(encoding="utf-8") == render(hostile)


def test_rendering_twice_gives_the_same_page(sample: RunFolder, page: str) -> None:
    assert render(sample) == page


def test_redaction_leaves_no_text_and_keeps_ids_and_numbers(sample: RunFolder) -> None:
    page = render(sample, redact_text=True)
    for row in sample.dialogues()[:40]:
        assert row.prompt not in page
        assert row.reference is not None
        assert row.reference[:60] not in page
        assert row.id in page
    for words in ("It is common to ask", "ibuprofen", "400 mg", "made up"):
        assert words not in page
    assert "All dialogue and reply text is omitted" in page
    assert "ROUGE-L +0.12" in page


def test_every_table_has_headers_and_every_region_a_name(page: str) -> None:
    root = parsed(page)
    for table in root.xpath("//table"):
        assert table.xpath("./thead/tr/th[@scope='col']")
        assert table.xpath("./tbody/tr/th[@scope]")
    assert all(region.get("aria-label") for region in root.xpath("//div[@role='region']"))


def test_ids_in_the_page_are_unique(page: str) -> None:
    ids = parsed(page).xpath("//@id")
    assert len(ids) == len(set(ids))


def test_outcomes_are_told_by_word_and_shape(page: str) -> None:
    signs = parsed(page).xpath("//span[contains(concat(' ', @class, ' '), ' sign ')]")
    assert signs
    assert all(len(sign.text_content().split()) >= 2 for sign in signs)


def test_two_hundred_dialogues_of_three_variants_stay_under_two_megabytes(tmp_path: Path) -> None:
    sample = Sample(dialogues=200, variants=("base", "adapter", "merged"), words=150)
    page = render(build_sample_run(tmp_path / "run", sample), shown=Shown(200, 0))
    assert page.count('<details class="card"') == 200
    assert len(page.encode()) <= 2_000_000


def test_long_texts_are_cut_visibly_and_the_page_stays_under_its_cap(tmp_path: Path) -> None:
    sample = Sample(dialogues=120, variants=("base", "adapter", "merged"), words=4000)
    page = render(build_sample_run(tmp_path / "run", sample))
    assert len(page.encode()) <= 10_000_000
    assert re.search(r"[\d,]+ characters of [\d,]+ characters omitted here", page)


def test_what_was_left_out_is_stated(tmp_path: Path) -> None:
    run = build_sample_run(tmp_path / "run", Sample(dialogues=60))
    page = render(run, shown=Shown(worst=20, random=10))
    assert page.count('<details class="card"') == 30
    assert (
        "30 of 60 dialogues are shown: the 20 with the lowest ROUGE-L, adapter − base, and 10 chosen at random" in page
    )
    assert "The other 30 are not shown here" in page


@pytest.mark.parametrize("passes", [frozenset(), frozenset({"latency"}), frozenset({"memory"})])
def test_runs_without_some_passes_render_and_say_so(tmp_path: Path, passes: frozenset[str]) -> None:
    sample = Sample(dialogues=12, passes=passes, gate=None, training=False)
    page = render(build_sample_run(tmp_path / "run", sample))
    (absent,) = parsed(page).xpath("//p[@id='absent']")
    told = absent.text_content().removeprefix("Not in this run: ").rstrip(".").split("; ")
    assert ("latency" in told) == ("latency" not in passes)
    assert ("memory" in told) == ("memory" not in passes)
    assert "a gate" in told
    assert any(what.startswith("training curves") for what in told)
    assert parsed(page).xpath("//section[@id='training'] | //section[@id='gate']") == []


def test_a_single_variant_renders(tmp_path: Path) -> None:
    page = render(build_sample_run(tmp_path / "run", Sample(dialogues=12, variants=("base",), gate=None)))
    assert "there is nothing to compare it with" in page


def test_an_unfinished_folder_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        render(RunFolder(tmp_path))


def test_a_damaged_gate_file_is_one_clear_error(tmp_path: Path) -> None:
    run = build_sample_run(tmp_path / "run", Sample(dialogues=6))
    (run.root / "gate.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="Run the gate again"):
        render(run)


@pytest.mark.slow
def test_three_variants_and_a_thousand_dialogues_take_five_seconds_and_a_gigabyte(tmp_path: Path) -> None:
    build_sample_run(tmp_path / "run", Sample(dialogues=1000, variants=("base", "adapter", "merged"), words=120))
    script = (
        "import sys, time; from pathlib import Path; from harness.store.folder import RunFolder\n"
        "from harness.backends.local.memory_worker import peak_rss_bytes\n"
        "from reports.render import write_report\n"
        f"write_report(RunFolder({str(tmp_path / 'run')!r}))\n"
        "print(time.process_time(), peak_rss_bytes() / 2**30, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    seconds, gigabytes, torch = done.stdout.split()
    # Time of the processor, start and imports included: what else runs on the machine does not count.
    assert float(seconds) <= 5.0
    assert float(gigabytes) <= 1.0
    assert torch == "False"


def test_where_a_merge_lost_most_is_listed(page: str) -> None:
    cells = parsed(page).xpath("//div[@aria-label='Table: weights with the largest merge errors']//tbody//*[text()]")
    assert [cell.text for cell in cells] == ["merged", "layers.3.self_attn.v_proj", "2.1\u00a0%", "99.8\u00a0%"]


def test_slices_that_were_asked_for_and_found_too_small_are_said_to_be(tmp_path: Path) -> None:
    run = build_sample_run(tmp_path / "run", Sample(dialogues=12))
    view = read_view(run)
    manifest = view.manifest.model_copy(update={"config": {"stats": {"slices": ["urgency"]}}})
    bare = replace(view, manifest=manifest, summary=view.summary.model_copy(update={"slices": ()}))
    assert draw(bare).absent["slices"].startswith("slices by urgency (none has enough dialogues)")


def test_a_page_of_one_system_is_not_compared_with_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(20, variants=("base",)))
    assert "against" not in parsed(render(run)).xpath("//title/text()")[0]
