"""``gate.md``: the gate's result for a job summary or a pull-request comment, short enough for either."""

from __future__ import annotations

import re

from harness.gating.explain import explain
from harness.gating.sentences import heading, number, shared_warnings, told_together, without_controls
from harness.gating.verdict import CheckResult, GateResult, RunFacts, VerdictName

MOST_CHARACTERS = 65_000
DROPPED = ("computation", "provenance", "warnings", "passed", "not passed")
MARKS: dict[VerdictName, str] = {"pass": "✅", "fail": "❌", "error": "💥", "inconclusive": "❔"}


def markdown(result: GateResult, most: int = MOST_CHARACTERS) -> str:
    """Return the result as Markdown of at most ``most`` characters, for a job summary or a comment.

    If it is too long, whole sections are dropped in the order of ``DROPPED`` and a line lists them. The verdict always
    stays.
    """
    written = {
        "not passed": _table("Not passed", [check for check in result.checks if check.verdict != "pass"]),
        "passed": _table("Passed", [check for check in result.checks if check.verdict == "pass"]),
        "warnings": _warnings(result),
        "computation": _computation(result),
        "provenance": _provenance(result),
    }
    left_out: list[str] = []
    for name in (*DROPPED, None):
        note = f"\n_Omitted for length: {', '.join(left_out)}. See gate.json._\n" if left_out else ""
        text = _headline(result, most) + "".join(written.values()) + note
        if len(text) <= most or name is None:
            break
        if written.pop(name):
            left_out.append(name)
    return text[:most]


def _headline(result: GateResult, most: int) -> str:
    lines = [
        f"## {MARKS[result.verdict]} Gate: {result.verdict} (exit code {result.exit_code})",
        "",
        _cell(result.sentence, most // 8),
        "",
        *(f"- 💥 {_cell(problem, most // 40)}" for problem in result.problems[:8]),
    ]
    return "\n".join(lines).rstrip() + "\n"


def _table(title: str, checks: list[CheckResult]) -> str:
    if not checks:
        return ""
    lines = [
        f"\n### {title}\n",
        "| | check | of | found |",
        "|---|---|---|---|",
    ]
    for together in told_together(checks):
        check = together[0]
        warn = " (warning only)" if not check.decides and check.verdict != "pass" else ""
        cells = (
            f"{MARKS[check.verdict]} {check.verdict}{warn}",
            *heading(together),
            check.sentence,
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _warnings(result: GateResult) -> str:
    warnings = [*result.warnings, *shared_warnings(result.checks)]
    return "\n### Warnings\n\n" + "".join(f"- {_cell(text)}\n" for text in warnings) if warnings else ""


def _computation(result: GateResult) -> str:
    if not result.checks:
        return ""
    parts = ["\n<details><summary>How each check was computed</summary>\n"]
    for check in result.checks:
        parts.append(f"\n**{_cell(check.id)}**\n\n" + "".join(f"1. {_cell(step)}\n" for step in explain(check)))
    return "".join(parts) + "\n</details>\n"


def _provenance(result: GateResult) -> str:
    resamples = f"{result.resamples or 0:,}"
    facts = {
        "run": _run(result.run),
        **{f"baseline {name}": _run(facts) for name, facts in result.baselines.items()},
        "thresholds": f"{result.thresholds}, {result.thresholds_digest[:12]}",
        "intervals": f"{number(100 * result.confidence)} % two-sided, {resamples} resamples, seed {result.seed}",
        "judged": result.created,
    }
    return "\n### Provenance\n\n" + "".join(f"- {key}: {_cell(value)}\n" for key, value in facts.items())


def _run(facts: RunFacts) -> str:
    numbers = (facts.numbers_digest or "unknown")[:12]
    return f"{facts.name}, run.json {facts.digest[:12]}, numbers {numbers}, started {facts.started or '–'}"


def _cell(text: str, most: int = 1_000) -> str:
    """Return the text on one line, escaped for a Markdown table cell and HTML."""
    text = text if len(text) <= most else text[: most - 1] + "…"
    text = re.sub(r"\s+", " ", without_controls(text))
    return re.sub(r"([\\`*_\[\]|~#@])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
