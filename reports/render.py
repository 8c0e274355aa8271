"""Render a run folder as one self-contained HTML file: no network, no external script, no torch.

Templates escape everything (Jinja's autoescape), fail on names they do not know (StrictUndefined), and pass every
string through ``escape.finalize``. Only two things reach the page unescaped: this package's own style sheet and
script, and charts rebuilt from an allowlist (``figures.svg``). A Content-Security-Policy with their hashes forbids
everything else.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.files import write_text_atomically
from harness.gating.sentences import shared_warnings
from harness.gating.trend import Trend
from harness.results.cost import Price
from harness.results.memory_fits import read_fits
from harness.store.folder import RunFolder
from reports.baseline import earlier_cells
from reports.cells import comparison_table
from reports.charts import draw
from reports.contenders import contenders_table, noun
from reports.cost_view import CostTable, cost_table
from reports.coverage import coverage_sentences
from reports.decision import decide
from reports.dialogue_cards import TEXT_BUDGET, Shown, dialogue_cards
from reports.escape import finalize
from reports.explain import sights, terms
from reports.fidelity_view import fidelity_rows, unknown_weights, worst_layers
from reports.further_sets import further_sets
from reports.gate_rows import gate_rows
from reports.got_worse import got_worse, lead
from reports.headline import headline
from reports.identity_view import identity_rows, identity_sentences
from reports.load_tests import HEADERS, load_test_rows
from reports.memory_view import breakdowns
from reports.next_command import next_command
from reports.next_step import next_step
from reports.numbers import amount, count, plain
from reports.provenance import provenance
from reports.roles import look
from reports.sections import sections
from reports.seeds_view import seeds_tables
from reports.slices import slice_tables
from reports.text import summary_markdown
from reports.tiles import tiles
from reports.trend_view import trend_facts
from reports.view import RunView, read_view
from reports.words import VERDICTS

HARD_CAP = 10_000_000  # bytes of one page


def render(
    folder: RunFolder,
    *,
    baseline: RunFolder | None = None,
    trend: Trend | None = None,
    redact_text: bool = False,
    shown: Shown | None = None,
    price: Price | None = None,
    linked: bool = True,
) -> str:
    """Return the report of a finished run as one HTML document.

    ``baseline`` adds an earlier run for comparison, and ``trend`` its history; ``redact_text`` omits all dialogue and
    reply text; ``shown`` is how many dialogues are listed; ``price`` replaces the one in the run's config; ``linked``:
    the page will be in the run folder, and may link to those of further sets. Raises InputError if the folder is not a
    finished run.
    """
    view = read_view(folder, redact_text=redact_text)
    earlier = read_view(baseline) if baseline is not None else None
    shown = shown or Shown()
    shown_trend = trend if trend and len(trend.runs) > 1 and trend.lines else None
    facts = {**_facts(view, earlier, cost_table(view, price), shown_trend), "linked": linked}
    budget = TEXT_BUDGET
    while True:
        page = render_page("page.html", {**facts, "listing": dialogue_cards(view, shown, text_budget=budget)})
        if len(page.encode("utf-8", errors="replace")) <= HARD_CAP or (shown.worst <= 1 and budget < 1000):
            return page
        # The text budget does not cover ids, columns and findings, so also show fewer dialogues.
        shown, budget = Shown(shown.worst // 2, shown.random // 2), budget // 2


def write_report(
    folder: RunFolder,
    out: Path | None = None,
    *,
    baseline: RunFolder | None = None,
    trend: Trend | None = None,
    redact_text: bool = False,
    shown: Shown | None = None,
    price: Price | None = None,
) -> Path:
    """Write the report (by default ``report.html`` in the run folder) atomically and return its path.

    In the run folder it links to the pages of further sets, which are written too, without a ``trend``. ``summary.md``
    is written beside each page there, so that both tell the same verdict.
    """
    path = out or folder.report_path
    in_folder = path.resolve() == folder.report_path.resolve()
    for name, one in (folder.further_sets() if in_folder else {}).items():
        if not one.summary_path.is_file():  # the page warns of it
            continue
        earlier = baseline.set_folder(name) if baseline and name in baseline.read_manifest().sets[1:] else None
        write_report(one, baseline=earlier, redact_text=redact_text, shown=shown, price=price)
    page = render(
        folder, baseline=baseline, trend=trend, redact_text=redact_text, shown=shown, price=price, linked=in_folder
    )
    write_text_atomically(path, page)
    if in_folder:
        write_text_atomically(folder.root / "summary.md", summary_markdown(folder))
    return path


def _facts(view: RunView, baseline: RunView | None, costs: CostTable | None, trend: Trend | None) -> dict[str, object]:
    decided, worse, fits = decide(view), got_worse(view), read_fits(view.folder.memory_path)
    charts = draw(view)
    return {
        "view": view,
        "sections": sections(view, charts, costs, worse=worse, trend=trend),
        "costs": costs,
        "absent": [*charts.absent.values(), *([] if view.gate else ["a gate"])],
        "look": partial(look, view),
        "decision": decided,
        "headline": headline(view, decided),
        "contenders": contenders_table(view),
        "contender": noun(view),
        "steps": next_step(view),
        "command": next_command(view),
        "tiles": tiles(view, fits),
        "sets": further_sets(view),
        "worse": worse,
        "worse_lead": lead(view, worse),
        "gate_sign": VERDICTS[view.gate.verdict] if view.gate else None,
        "checks": gate_rows(view),
        "check_warnings": shared_warnings(view.gate.checks) if view.gate else [],
        "missing": [view.label(name) for name in view.summary.metrics if name in view.nowhere],
        "coverage": coverage_sentences(view),
        "table": comparison_table(view, earlier_cells(view, baseline) if baseline else None),
        "baseline": baseline,
        "trend": trend_facts(trend) if trend else None,
        "charts": charts,
        "memory": breakdowns(view),
        "fits": fits,
        "pairs": fidelity_rows(view),
        "identities": identity_sentences(view),
        "likenesses": identity_rows(view),
        "load_tests": load_test_rows(view),
        "load_test_headers": HEADERS,
        "layers": worst_layers(view),
        "unknown_weights": unknown_weights(view),
        "seeds": seeds_tables(view),
        "slices": slice_tables(view),
        "provenance": provenance(view),
        "terms": terms(view),
        "sights": sights(view),
        "markdown": summary_markdown(view.folder, view=view),
    }


def render_page(template: str, facts: Mapping[str, object]) -> str:
    """Render one of this package's templates with the page's safeguards."""
    style, script = _asset("page.css") + _asset("first.css"), _asset("page.js")
    return (
        _environment()
        .get_template(template)
        .render(
            facts,
            style=Markup(style),
            script=Markup(script),
            policy=_policy(style, script),
            icon=_ICON,
            amount=amount,
            count=count,
            plain=plain,
        )
    )


def render_printed(template: str, style_sheet: str, facts: Mapping[str, object]) -> str:
    """Render a template that is made to be printed: with a style sheet of its own and no script."""
    style = _asset(style_sheet)
    return (
        _environment().get_template(template).render(facts, style=Markup(style), policy=_policy(style, ""), icon=_ICON)
    )


def _environment() -> Environment:
    return Environment(
        loader=PackageLoader("reports", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _asset(name: str) -> str:
    return (Path(__file__).parent / "assets" / name).read_text(encoding="utf-8")


# A square with two bars, as a data URI so that the browser makes no request.
_ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' "
    "height='16' rx='3'"
    " fill='%231f4e5f'/%3E%3Cpath d='M4 12V7h3v5zM9 12V4h3v8z' fill='%23fff'/%3E%3C/svg%3E"
)


def _policy(style: str, script: str) -> str:
    """Return a policy that allows only this style sheet and this script, and no requests."""
    rules = (
        "default-src 'none'",
        f"style-src {_hash(style)}",
        f"script-src {_hash(script)}",
        "img-src data:",
        "base-uri 'none'",
        "form-action 'none'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
    )
    return "; ".join(rules)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"
