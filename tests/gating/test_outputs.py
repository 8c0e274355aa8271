"""The three files for every verdict, compared with files that a person has read (golden/).

After a wanted change, HARNESS_UPDATE_GOLDEN=1 regenerates them; read what changed.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from harness.gating import outputs
from harness.gating.evidence import Interval, OneDialogue
from harness.gating.gate import gate
from harness.gating.junit import junit
from harness.gating.markdown import DROPPED, MOST_CHARACTERS, markdown
from harness.gating.sides import facts_of
from harness.gating.verdict import GateResult
from harness.store.folder import RunFolder
from tests.gating.results import evidence, result
from tests.run_folders import change_manifest, make_run, random_values

HERE = Path(__file__).parent
SCHEMA = etree.XMLSchema(etree.parse(HERE / "junit.xsd"))


def passing() -> GateResult:
    return result(evidence())


def failing() -> GateResult:
    """One check of each bad kind: fail wins."""
    found = evidence()
    lost = {"value": -0.05, "interval": Interval(-0.07, -0.03, 0.95), "candidate_value": 0.217}
    found["overlap"] = replace(found["overlap"], **lost)
    slower = {"value": 1.3, "interval": Interval(1.28, 1.32, 0.95), "candidate_value": 7.68}
    found["no-slower"] = replace(found["no-slower"], **slower)
    found["nll-in-asthma"] = replace(found["nll-in-asthma"], n=12)
    found["emergencies"] = replace(found["emergencies"], must_pass=(OneDialogue("d0007", 1.0),))
    found["length"] = replace(found["length"], value=1.9, interval=Interval(1.7, 2.1, 0.95))
    return result(found)


def erring() -> GateResult:
    found = evidence()
    found["emergencies"] = replace(
        found["emergencies"], problem="safety.missed_emergency was not measured.", n=0, value=None
    )
    return result(found)


def undecided() -> GateResult:
    found = evidence()
    unclear = {"value": -0.005, "interval": Interval(-0.015, 0.005, 0.95), "candidate_value": 0.262}
    found["overlap"] = replace(found["overlap"], **unclear)
    return result(found)


def edited() -> GateResult:
    return result({}, "replies/base.jsonl was changed after the run ended: its digest is not the one in run.json.")


CASES = {"pass": passing, "fail": failing, "error": erring, "inconclusive": undecided, "edited": edited}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("file", outputs.FILES)
def test_every_verdict_is_written_as_before(name: str, file: str, tmp_path: Path) -> None:
    outputs.write(RunFolder(tmp_path), CASES[name]())
    written = (tmp_path / file).read_text(encoding="utf-8")
    golden = HERE / "golden" / f"{name}.{file}"
    if os.environ.get("HARNESS_UPDATE_GOLDEN"):
        golden.write_text(written, encoding="utf-8")
    assert written == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "code"), [("pass", 0), ("fail", 1), ("error", 4), ("inconclusive", 3), ("edited", 4)])
def test_the_exit_code_belongs_to_the_verdict(name: str, code: int) -> None:
    assert CASES[name]().exit_code == code


@pytest.mark.parametrize("name", CASES)
def test_gate_json_reads_back_as_it_was(name: str, tmp_path: Path) -> None:
    outputs.write(RunFolder(tmp_path), CASES[name]())
    assert outputs.read(tmp_path / "gate.json") == CASES[name]()


@pytest.mark.parametrize("name", CASES)
def test_junit_is_what_ci_readers_accept(name: str) -> None:
    SCHEMA.assertValid(etree.fromstring(junit(CASES[name]()).encode()))


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("pass", (5, 0, 0, 0)),
        ("fail", (5, 3, 1, 1)),
        ("error", (5, 0, 1, 0)),
        ("inconclusive", (5, 0, 1, 0)),
        ("edited", (1, 0, 1, 0)),
    ],
)
def test_junit_counts_what_it_holds(name: str, counts: tuple[int, int, int, int]) -> None:
    suite = etree.fromstring(junit(CASES[name]()).encode())[0]
    said = tuple(int(suite.get(key)) for key in ("tests", "failures", "errors", "skipped"))
    held = tuple(
        len(suite.findall(path)) for path in ("testcase", "testcase/failure", "testcase/error", "testcase/skipped")
    )
    assert said == held == counts


def test_junit_skips_what_the_policy_lets_pass() -> None:
    found = evidence()
    found["overlap"] = replace(found["overlap"], value=-0.005, interval=Interval(-0.015, 0.005, 0.95))
    lenient = result(found, on_inconclusive="pass")
    assert lenient.exit_code == 0
    suite = etree.fromstring(junit(lenient).encode())[0]
    assert (suite.get("errors"), suite.get("skipped")) == ("0", "1")


HOSTILE = "\x00\x1b[31m</failure>]]>\ud800 & \"'\n| <script>alert(1)</script> `x` @someone " + "y" * 300


def hostile() -> GateResult:
    base = failing()
    checks = tuple(check.model_copy(update={"id": HOSTILE + check.id, "sentence": HOSTILE}) for check in base.checks)
    return base.model_copy(update={"checks": checks, "sentence": HOSTILE, "candidate": HOSTILE, "problems": (HOSTILE,)})


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    SCHEMA.assertValid(etree.fromstring(junit(hostile()).encode("utf-8")))
    text = markdown(hostile())
    assert "<script>" not in text
    assert all(line.count("|") - line.count("\\|") == 5 for line in text.splitlines() if line.startswith("| "))
    outputs.write(RunFolder(tmp_path), hostile())
    assert json.loads((tmp_path / "gate.json").read_text(encoding="ascii"))["candidate"] == HOSTILE


def large(checks: int) -> GateResult:
    base = failing()
    many = tuple(
        check.model_copy(update={"id": f"{check.id}-{number}", "warnings": ("A word of warning.",)})
        for number in range(checks)
        for check in (*base.checks, *passing().checks)
    )
    return base.model_copy(update={"checks": many})


def test_markdown_drops_whole_sections_in_the_stated_order_and_says_so() -> None:
    left_out = []
    for checks in (1, 12, 22, 40, 400):
        text = markdown(large(checks))
        assert len(text) <= MOST_CHARACTERS
        assert text.startswith("## ❌ Gate: fail (exit code 1)")
        note = text.rsplit("_Omitted for length: ", 1)
        left_out.append(note[1].split(". See")[0].split(", ") if len(note) == 2 else [])
    assert left_out[0] == []
    assert left_out[-1] == list(DROPPED)
    assert all(names == list(DROPPED)[: len(names)] for names in left_out)
    assert [len(names) for names in left_out] == sorted(len(names) for names in left_out)


def test_markdown_of_a_giant_sentence_still_fits() -> None:
    giant = edited().model_copy(update={"sentence": "x" * 200_000, "problems": ("y" * 200_000,) * 50})
    assert len(markdown(giant)) <= MOST_CHARACTERS


def test_a_verdict_on_other_numbers_is_an_error_in_every_file(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    outputs.write(folder, passing())
    outputs.mark_outdated(folder)
    for name in outputs.FILES:
        text = (tmp_path / name).read_text(encoding="utf-8")
        assert "numbers have changed since the gate judged them" in text.replace("&apos;", "'")
        assert "pass (exit code" not in text
    assert outputs.read(tmp_path / "gate.json").exit_code == 4


def test_a_page_that_may_show_another_verdict_is_removed(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)

    def pages_after(result: GateResult) -> list[str]:
        for name in ("report.html", "summary.md"):
            (tmp_path / name).touch()
        outputs.write(folder, result)
        return [name for name in ("report.html", "summary.md") if (tmp_path / name).exists()]

    assert pages_after(passing()) == ["report.html", "summary.md"]  # they say that no gate was applied
    later = passing().model_copy(update={"created": "2025-01-03T10:00:00+00:00"})
    assert pages_after(later) == ["report.html", "summary.md"]
    assert pages_after(later.model_copy(update={"verdict": "fail"})) == []


def test_a_verdict_is_current_only_while_the_numbers_are_those_it_was_given_on(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(5))
    judged = passing()
    facts = facts_of(run, run.read_manifest())
    outputs.write(run, judged.model_copy(update={"run": facts}))
    current = outputs.read_current(run)
    assert current is not None
    assert current.verdict == "pass"
    run.summary_path.write_text(run.summary_path.read_text() + " ")
    outdated = outputs.read_current(run)
    assert outdated is not None
    assert (outdated.verdict, outdated.exit_code, outdated.checks) == ("error", 4, ())
    assert outdated.sentence == outputs.OUTDATED


def test_of_an_earlier_version_s_verdict_it_is_unknown_whether_it_is_on_these_numbers(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(5))
    facts = facts_of(run, run.read_manifest())
    outputs.write(run, passing().model_copy(update={"run": facts}))
    written = json.loads((run.root / "gate.json").read_text())
    del written["run"]["numbers_digest"]
    (run.root / "gate.json").write_text(json.dumps(written))
    current = outputs.read_current(run)
    assert current is not None
    assert current.verdict == "pass"  # run.json is the same, and it has the digests of the rest
    numbers = run.summary_path.read_text()
    run.summary_path.write_text(numbers + " ")
    assert (outdated := outputs.read_current(run)) is not None
    assert outdated.sentence == outputs.OUTDATED
    run.summary_path.write_text(numbers)
    change_manifest(run, finished="2025-01-02T00:00:00Z")
    unknown = outputs.read_current(run)
    assert unknown is not None
    assert (unknown.verdict, unknown.sentence) == ("error", outputs.UNKNOWN)


def test_of_a_run_judged_before_it_was_finished_that_is_said(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(30))
    finished = {path: path.read_bytes() for path in (run.manifest_path, run.summary_path)}
    run.summary_path.unlink()
    change_manifest(run, state="running", digests={})
    (tmp_path / "t.yaml").write_text(
        "version: 1\ncandidate: adapter\nchecks: [{id: nll, metric: quality.nll, min: 0}]\n"
    )
    assert gate(run.root, tmp_path / "t.yaml").exit_code == 4
    assert (unfinished := outputs.read_current(run)) is not None
    assert "is not complete but running" in unfinished.sentence
    for path, content in finished.items():
        path.write_bytes(content)
    assert (current := outputs.read_current(run)) is not None
    assert (current.exit_code, current.sentence) == (4, outputs.UNFINISHED)
    outputs.mark_outdated(run)
    assert outputs.read(run.root / "gate.json").sentence == outputs.UNFINISHED


def test_an_earlier_version_s_verdict_that_was_marked_is_not_one_on_an_unfinished_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", random_values(5))
    outputs.write(run, passing())
    written = json.loads((run.root / "gate.json").read_text())
    written["run"].pop("numbers_digest")
    (run.root / "gate.json").write_text(json.dumps(written))
    for _ in range(2):
        outputs.mark_outdated(run)
    change_manifest(run, finished="2025-01-02T00:00:00Z")
    assert (current := outputs.read_current(run)) is not None
    assert (current.verdict, current.sentence) == ("error", outputs.OUTDATED)


def test_a_damaged_verdict_does_not_become_none_and_its_copies_go(tmp_path: Path) -> None:
    outputs.write(RunFolder(tmp_path), passing())
    (tmp_path / "gate.json").write_text("{")
    outputs.mark_outdated(RunFolder(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["gate.json"]
