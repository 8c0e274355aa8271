"""A run folder edited after the run ended is noticed."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.errors import InputError
from harness.files import digest_file
from harness.store import seals
from harness.store.folder import RunFolder
from tests.run_folders import change_manifest, make_run, random_values


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    values = random_values(5)
    return make_run(tmp_path / "run", values, tokens_ms={"base": [5.0] * 4})


def problems(run: RunFolder) -> list[str]:
    return seals.check(run, run.read_manifest())


def test_an_untouched_run_has_no_problems(run: RunFolder) -> None:
    assert problems(run) == []
    sealed = run.read_manifest().digests
    assert {"dialogues.jsonl", "summary.json", "replies/merged.jsonl", "records/latency/base.jsonl"} <= set(sealed)


@pytest.mark.parametrize(
    "name", ["replies/base.jsonl", "dialogues.jsonl", "summary.json", "records/latency/base.jsonl"]
)
def test_one_changed_character_is_noticed(run: RunFolder, name: str) -> None:
    path = run.root / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    assert len(problems(run)) == 1
    assert problems(run)[0].startswith(f"{name} was changed")


def test_a_removed_and_an_added_file_are_noticed(run: RunFolder) -> None:
    (run.root / "replies" / "base.jsonl").rename(run.root / "replies" / "other.jsonl")
    assert [sentence.split(" ", 1)[0] for sentence in problems(run)] == ["replies/base.jsonl", "replies/other.jsonl"]


@pytest.mark.parametrize("name", ["latency.json", "fidelity_weights.json"])
def test_what_the_page_shows_beside_the_numbers_is_sealed_too(run: RunFolder, name: str) -> None:
    (run.root / name).write_text("{}")
    assert problems(run) == []  # as in runs of earlier versions, which did not seal it
    change_manifest(run, digests=seals.seal(run))
    (run.root / name).write_text("[]")
    assert problems(run) == [f"{name} was changed after the run ended: its digest is not the one in run.json."]
    assert list(seals.edits(run, run.read_manifest()).sources) == problems(run)


def test_what_is_not_measured_may_come_and_go(run: RunFolder) -> None:
    (run.root / "report.html").write_text("new")
    (run.root / "gate.json").write_text("{}")
    assert problems(run) == []


def test_a_run_without_a_seal_is_not_trusted(run: RunFolder) -> None:
    change_manifest(run, digests={"dialogues_source": "abc"})
    assert "has no digests" in problems(run)[0]


def test_content_digests_ignore_the_order_and_see_the_text(run: RunFolder) -> None:
    rows = run.dialogues()
    changed = [rows[0].model_copy(update={"reference": "Other."}), *rows[1:]]
    before = seals.content_digests({row.id: row for row in rows})
    assert seals.content_digests({row.id: row for row in rows[::-1]}) == before
    after = seals.content_digests({row.id: row for row in changed})
    assert after[seals.REFERENCES] != before[seals.REFERENCES]
    assert after[seals.PROMPTS] == before[seals.PROMPTS]


def test_an_unreadable_file_is_one_sentence(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *arguments: object) -> None:
        raise PermissionError(13, "Permission denied", str(path))  # root, as which CIs run, may read everything

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(InputError, match=r"^Cannot read .*summary\.json: Permission denied\.$"):
        digest_file(run.summary_path)
