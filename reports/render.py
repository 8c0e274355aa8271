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
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from harness.files import write_text_atomically
from harness.results.memory_fits import read_fits
from harness.store.folder import RunFolder
from reports.baseline import earlier_cells
from reports.cells import comparison_table, gate_rows
from reports.charts import draw
from reports.coverage import coverage_cells
from reports.dialogue_cards import TEXT_BUDGET, Shown, dialogue_cards
from reports.escape import finalize
from reports.explain import sights, terms
from reports.fidelity_view import fidelity_rows, unknown_weights, worst_layers
from reports.identity_view import identity_rows, identity_sentences
from reports.memory_view import breakdowns
from reports.next_step import key_figures, next_step, tone
from reports.numbers import amount, count, plain
from reports.provenance import provenance
from reports.slices import slice_tables
from reports.text import summary_markdown
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from reports.words import VERDICTS

HARD_CAP = 10_000_000  # bytes of one page


SECTIONS = {
    "gate": "Gate",
    "comparison": "Comparison",
    "differences": "Differences",
    "quality": "Quality",
    "safety": "Safety",
    "fidelity": "Fidelity",
    "latency": "Latency",
    "memory": "Memory",
    "training": "Training",
    "cost": "Quality against cost",
    "slices": "Slices",
    "dialogues": "Dialogues",
    "provenance": "Provenance",
    "reading": "How to read this page",
}


def render(
    folder: RunFolder, *, baseline: RunFolder | None = None, redact_text: bool = False, shown: Shown | None = None
) -> str:
    """Return the report of a finished run as one HTML document.

    ``baseline`` adds an earlier run for comparison; ``redact_text`` omits all dialogue and reply text; ``shown`` is how
    many dialogues are listed. Raises InputError if the folder is not a finished run.
    """
    view = read_view(folder, redact_text=redact_text)
    earlier = read_view(baseline) if baseline is not None else None
    shown = shown or Shown()
    facts = _facts(view, earlier)
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
    redact_text: bool = False,
    shown: Shown | None = None,
) -> Path:
    """Write the report (by default ``report.html`` in the run folder) atomically and return its path."""
    path = out or folder.report_path
    write_text_atomically(path, render(folder, baseline=baseline, redact_text=redact_text, shown=shown))
    return path


def _facts(view: RunView, baseline: RunView | None) -> dict[str, object]:
    return {
        "view": view,
        "sections": SECTIONS,
        "sentence": verdict_sentence(view),
        "steps": next_step(view),
        "figures": key_figures(view),
        "tone": tone(view),
        "gate_sign": VERDICTS[view.gate.verdict] if view.gate else None,
        "checks": gate_rows(view),
        "missing": [view.label(name) for name in view.summary.metrics if name in view.nowhere],
        "coverage": coverage_cells(view),
        "table": comparison_table(view, earlier_cells(view, baseline) if baseline else None),
        "baseline": baseline,
        "charts": draw(view),
        "memory": breakdowns(view),
        "fits": read_fits(view.folder.memory_path),
        "pairs": fidelity_rows(view),
        "identities": identity_sentences(view),
        "likenesses": identity_rows(view),
        "layers": worst_layers(view),
        "unknown_weights": unknown_weights(view),
        "slices": slice_tables(view),
        "provenance": provenance(view),
        "terms": terms(view),
        "sights": sights(view),
        "markdown": summary_markdown(view.folder, view=view),
    }


def render_page(template: str, facts: Mapping[str, object]) -> str:
    """Render one of this package's templates with the page's safeguards."""
    style, script = _asset("page.css"), _asset("page.js")
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
