"""``gate.junit.xml``: the gate's result as JUnit XML, which CI systems show as test cases."""

from __future__ import annotations

from xml.sax.saxutils import escape, quoteattr

from harness.gating.explain import explain
from harness.gating.sentences import without_controls
from harness.gating.verdict import CheckResult, GateResult


def junit(result: GateResult) -> str:
    """Return the result as JUnit XML: one suite with one case per check.

    fail is a failure; error is an error; inconclusive is an error, or skipped if the policy allows it; findings of
    checks with severity ``warn`` are skipped with their sentence. Problems of the whole run are a separate case.
    """
    cases = [_case(check, result) for check in result.checks]
    if result.problems:
        text = "\n".join(result.problems)
        cases.insert(
            0, ("error", "run", f'<error message={_attribute(result.problems[0])} type="error">{_text(text)}</error>')
        )
    if not cases:
        cases = [("error", "checks", f'<error message={_attribute(result.sentence)} type="error"/>')]
    kinds = [kind for kind, _, _ in cases]
    counts = (
        f'tests="{len(cases)}" failures="{kinds.count("failure")}" '
        f'errors="{kinds.count("error")}" skipped="{kinds.count("skipped")}" time="0"'
    )
    stamp = result.created.split(".")[0].removesuffix("Z").split("+")[0]
    facts = {
        "verdict": result.verdict,
        "exit_code": str(result.exit_code),
        "candidate": result.candidate,
        "run_digest": result.run.digest,
        "numbers_digest": result.run.numbers_digest or "unknown",
        "thresholds": result.thresholds,
        "thresholds_digest": result.thresholds_digest,
    }
    suite = f"name={_attribute('gate ' + result.run.name)} {counts} timestamp={_attribute(stamp)}"
    lines = [
        '<?xml version="1.0" encoding="UTF-8"?>',
        f'<testsuites name="harness gate" {counts}>',
        f'  <testsuite {suite} hostname="localhost">',
        "    <properties>",
        *(f"      <property name={_attribute(key)} value={_attribute(value)}/>" for key, value in facts.items()),
        "    </properties>",
    ]
    for _, name, inside in cases:
        head = f'    <testcase classname={_attribute("gate." + result.candidate)} name={_attribute(name)} time="0"'
        lines.append(f"{head}>{inside}</testcase>" if inside else f"{head}/>")
    return "\n".join([*lines, "  </testsuite>", "</testsuites>", ""])


def _case(check: CheckResult, result: GateResult) -> tuple[str, str, str]:
    message = _attribute(f"{check.verdict}: {check.sentence}")
    details = _text("\n".join(explain(check)))
    if check.verdict == "pass":
        return "pass", check.id, f"<system-out>{_text(check.sentence)}</system-out>"
    let_pass = check.verdict == "inconclusive" and result.on_inconclusive == "pass"
    if not check.decides or let_pass:
        return "skipped", check.id, f"<skipped message={message}/>"
    tag = "failure" if check.verdict == "fail" else "error"
    return tag, check.id, f'<{tag} message={message} type="{check.verdict}">{details}</{tag}>'


def _attribute(text: str) -> str:
    return quoteattr(without_controls(text), {"\n": "&#10;", "\t": "&#9;", "\r": "&#13;"})


def _text(text: str) -> str:
    return escape(without_controls(text))
