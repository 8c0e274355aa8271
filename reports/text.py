"""The same verdict and table as plain text for a terminal and as Markdown for an issue or a model card."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.store.folder import RunFolder
from harness.store.seals import numbers_digest
from reports.cells import comparison_table
from reports.coverage import coverage_cells
from reports.decision import decide
from reports.escape import visible
from reports.further_sets import set_lines
from reports.gate_rows import gate_rows
from reports.identity_view import identity_sentences
from reports.next_step import next_step
from reports.numbers import count
from reports.seeds_view import seeds_sentences
from reports.terminal import aligned, continued, wrapped
from reports.verdict_sentence import verdict_sentence
from reports.view import RunView, read_view
from reports.words import Sign

_HEADLINES = (
    "quality.rouge_1",
    "quality.rouge_2",
    "quality.rouge_l",
    "quality.bleu",
    "quality.chrf",
    "quality.nll",
    "quality.perplexity",
    "latency.ttft_ms.p50",
    "latency.tpot_ms.p50",
    "latency.tokens_per_s",
    "memory.peak_allocated_mib",
    "memory.peak_rss_mib",
)


@dataclass(frozen=True)
class TextSummary:
    """The summary for a terminal. ``rows`` have one cell per header; the first is the metric's label."""

    sentence: str
    steps: tuple[str, ...]
    headers: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    absent: tuple[str, ...] = ()  # what was asked for and not measured, with the reason
    sets: tuple[str, ...] = ()  # what was found on each further set


def summary_rows(folder: RunFolder, *, everything: bool = False, view: RunView | None = None) -> TextSummary:
    """Return the verdict sentence, the next steps and the table's main rows (or all) as finished text."""
    view = view or read_view(folder)
    decided = decide(view)
    coverage = coverage_cells(view)
    covered = {one.variant: one.brief for one in coverage}
    rows = (
        [("Dialogues answered", *(covered.get(variant, "not measured") for variant in view.variants))]
        if covered
        else []
    )
    for group in comparison_table(view).main:
        for row in group.rows:
            if everything or row.name in _HEADLINES or group.family in {"safety", "fidelity"}:
                unit = f" ({row.unit})" if row.unit and row.unit != "%" else ""
                rows.append(
                    (
                        visible(row.label) + unit,
                        *(
                            visible(with_change(cell.value or _absent(view, row.name, variant), cell.change, cell.sign))
                            for variant, cell in zip(view.variants, row.cells, strict=True)
                        ),
                    )
                )
    return TextSummary(
        sentence=visible(verdict_sentence(view)),
        steps=tuple(
            visible(step)
            for step in (
                *identity_sentences(view),
                *seeds_sentences(view),
                f"{decided.word}: {decided.reason}.",
                *next_step(view),
            )
        ),
        headers=("", *(visible(variant) for variant in view.variants)),
        rows=tuple(rows),
        absent=tuple(visible(f"{one.variant}: {what}") for one in coverage for what in one.absent),
        sets=tuple(map(visible, set_lines(view))),
    )


def _absent(view: RunView, name: str, variant: str) -> str:
    """Say why there is no figure; those of a server stand under names of their own, which the page shows."""
    served = (view.estimate(one, variant) for one in view.summary.metrics if one.startswith(f"{name}[engine=server"))
    return "at its server" if any(one and one.value is not None for one in served) else "not measured"


def with_change(value: str, change: str, sign: Sign | None) -> str:
    """Return a value with its change and outcome, if there is a change."""
    return f"{value}  {change}" + (f" {sign.shape} {sign.word}" if sign else "") if change else value


def summary_text(folder: RunFolder, *, everything: bool = False, columns: int | None = None) -> str:
    """Return the verdict sentence and the table for a terminal or a log, without colours.

    No line is longer than ``columns``, but for a word that is; None, for a log, wraps nothing.
    """
    summary = summary_rows(folder, everything=everything)
    rows = [summary.headers, *summary.rows]
    table = aligned(rows, ruled=True) if columns is None else continued(rows, columns, ruled=True)

    def told(sentences: Sequence[str]) -> list[str]:
        return [line for one in sentences for line in ([one] if columns is None else wrapped(one, columns=columns))]

    absent = ["", *told(summary.absent)] if summary.absent else []
    sets = ["", *told(summary.sets)] if summary.sets else []
    return "\n".join([*told([summary.sentence, *summary.steps]), "", *table, *absent, *sets]) + "\n"


def summary_markdown(folder: RunFolder, *, view: RunView | None = None, steps: bool = True) -> str:
    """Return ``summary.md``, for an issue; without the next steps, for a model card."""
    view = view or read_view(folder)
    summary = summary_rows(folder, everything=True, view=view)
    lines = [
        f"### {_plain_md(f'{view.candidate or view.reference} – {view.name}')}",
        "",
        f"**{_plain_md(summary.sentence)}**",
        "",
    ]
    lines += [f"- {_plain_md(step)}" for step in summary.steps if steps]
    lines += ["", *_md_table(summary.headers, summary.rows)]
    lines += ["", *(f"- {_plain_md(what)}" for what in summary.absent)] if summary.absent else []
    lines += ["", *(f"- {_plain_md(line)}" for line in summary.sets)] if summary.sets else []
    checks = gate_rows(view)
    if checks:
        lines += ["", "#### Gate", ""]
        rows = [
            (
                row.ids,
                row.about,
                row.check.sentence,
                f"{row.sign.shape} {row.sign.word}{'' if row.stops else ' (warning only)'}",
            )
            for row in checks
        ]
        lines += _md_table(("check", "of", "found", "verdict"), rows)
    manifest = view.manifest
    uncovered = "no interval covers the randomness of training or the choice of the held-out set"
    if view.summary.recipes:
        uncovered = "no interval covers the choice of the held-out set, and only those over seeds the luck of training"
    lines += [
        "",
        f"Differences are relative to {_plain_md(view.reference or 'nothing')}; intervals are two-sided, 95 %, over "
        f"dialogues. Overlap metrics and heuristics cannot tell whether a reply is correct; {uncovered}.",
        "",
        f"Run {_plain_md(view.name)}, config {_plain_md(manifest.config_digest)}, template "
        f"{_plain_md(manifest.template or 'none')}, "
        f"{count(len(view.dialogues), 'dialogue')}, {_plain_md(manifest.finished or 'not finished')}, numbers "
        f"{numbers_digest(view.folder)}.",
    ]
    return "\n".join(lines) + "\n"


def _md_table(headers: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [headers, ["---"] * len(headers), *rows]
    return ["| " + " | ".join(_plain_md(cell) if cell != "---" else cell for cell in row) + " |" for row in lines]


_MARKS = str.maketrans(
    {
        "&": "&amp;",
        "<": "&lt;",
        ">": "&gt;",
        "|": "&#124;",
        "@": "&#64;",
        "#": "&#35;",
        **{mark: f"\\{mark}" for mark in "\\`*_{}[]~$"},
    }
)


def _plain_md(text: str) -> str:
    """Return text that Markdown takes literally: one line, no markup, no HTML, no links, mentions or references."""
    literal = " ".join(visible(text).split()).translate(_MARKS)
    return literal.replace("://", ":&#47;&#47;").replace("www.", "www&#46;")
