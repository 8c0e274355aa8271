"""The further sets of two runs side by side."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.store import seals
from harness.store.folder import RunFolder
from reports.compare import comparison, comparison_text, render_comparison
from tests.run_folders import Values, change_manifest, make_run, random_values, with_sets


def general(gain: float) -> Values:
    values = random_values(100, seed=5 if gain else 6, gain=gain)
    return {name: {"quality.nll": metrics["quality.nll"]} for name, metrics in values.items()}


def run_of(root: Path, gain: float) -> RunFolder:
    return with_sets(make_run(root), "clinic", general=general(gain))


def flat(text: str) -> str:
    return " ".join(text.split())


@pytest.fixture
def kept(tmp_path: Path) -> RunFolder:
    return run_of(tmp_path / "kept", 0.0)


def test_a_loss_on_a_further_set_is_told_as_its_own_comparison_tells_it(kept: RunFolder, tmp_path: Path) -> None:
    lost = run_of(tmp_path / "lost", -0.3)
    own = comparison([kept.set_folder("general"), lost.set_folder("general")]).changes[1]["quality.nll", "adapter"]
    assert own.sign is not None
    assert own.sign.word == "worse"
    told = f"Set general against kept, 100 dialogues, adapter: nll {own.change} ({own.interval}) ▼ worse."
    text = comparison_text([kept, lost])
    assert told in flat(text)
    assert f"python -m harness compare {kept.root}/sets/general {lost.root}/sets/general\n" in text
    page = render_comparison([kept, lost])
    assert told in page
    assert str(tmp_path) not in page


def test_the_same_further_set_in_both_has_no_difference(kept: RunFolder) -> None:
    copy = Path(shutil.copytree(kept.root, kept.root.with_name("copy")))
    text = flat(comparison_text([kept, RunFolder(copy)]))
    assert "copy: Set general against kept, 100 dialogues, adapter: nll no difference." in text


def test_other_dialogues_of_a_further_set_are_not_paired(kept: RunFolder, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", 0.0)
    digests = other.set_folder("general").read_manifest().digests
    change_manifest(other.set_folder("general"), digests={**digests, seals.REFERENCES: "another"})
    assert "Set general against kept, 100 dialogues: not comparable (different dialogues)." in flat(
        comparison_text([kept, other])
    )


@pytest.mark.parametrize("turned", [False, True])
def test_a_set_that_one_run_has_is_one_line_and_no_changed_setting(
    kept: RunFolder, tmp_path: Path, turned: bool
) -> None:
    alone = make_run(tmp_path / "alone")
    settings = {"clinic": {"path": "clinic.jsonl"}, "general": {"path": "general.jsonl", "limit": 3}}
    change_manifest(kept, config={**kept.read_manifest().config, "sets": settings})
    text = comparison_text([alone, kept] if turned else [kept, alone])
    assert text.count("Set general: only in kept.") == 1
    assert "Changed" not in text


def test_a_changed_setting_of_a_set_that_both_have_is_named(kept: RunFolder, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", 0.0)
    change_manifest(other, config={**other.read_manifest().config, "sets": {"clinic": {}, "general": {"limit": 3}}})
    assert "Changed: sets.general.limit: not set → 3" in comparison_text([kept, other])


def test_a_further_set_without_its_summary_is_said_to_lack_it(kept: RunFolder, tmp_path: Path) -> None:
    other = run_of(tmp_path / "other", 0.0)
    other.set_folder("general").summary_path.unlink()
    assert "Set general: other lacks its summary.json, so it is not compared." in flat(comparison_text([kept, other]))
