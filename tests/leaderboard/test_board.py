"""The leaderboard over several runs: who is on it, who is not and why."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.files import digest_file, write_rows
from harness.leaderboard.board import Board, leaderboard
from harness.leaderboard.machines import machines
from harness.store.folder import RunFolder
from tests.leaderboard.made_boards import DIALOGUES, board_run, facts, values_of
from tests.run_folders import change_manifest, reseal, with_sets


def ranked(board: Board) -> list[tuple[str, str, int]]:
    return [(one.entry.run.name, one.entry.variant, one.group) for one in board.ranked]


def reasons(board: Board) -> dict[str, str]:
    return {one.name: one.reason for one in (*board.unranked, *board.apart)}


def test_every_variant_of_every_run_is_placed(tmp_path: Path) -> None:
    board_run(tmp_path / "one", {"base": 0.0, "adapter": 0.05}, seed=1)
    board_run(tmp_path / "two", {"adapter": 0.1}, seed=2)
    board = leaderboard(tmp_path)
    assert ranked(board) == [("two", "adapter", 0), ("one", "adapter", 1), ("one", "base", 2)]
    assert (board.metric, board.dialogues) == ("quality.rouge_l", DIALOGUES)


def test_the_largest_group_of_the_same_dialogues_is_ranked(tmp_path: Path) -> None:
    board_run(tmp_path / "a-alone", {"base": 0.2}, values=values_of({"base": 0.2}, dialogues=60))
    for number in range(2):
        board_run(tmp_path / f"run{number}", {"base": 0.0}, seed=number)
    board = leaderboard(tmp_path)
    assert {run.name for run in board.runs} == {"run0", "run1"}
    assert "asked other dialogues" in reasons(board)["a-alone"]


def test_like_ranks_the_runs_that_asked_the_same_as_a_run(tmp_path: Path) -> None:
    board_run(tmp_path / "alone", {"base": 0.2}, values=values_of({"base": 0.2}, dialogues=60))
    for number in range(2):
        board_run(tmp_path / f"run{number}", {"base": 0.0}, seed=number)
    board = leaderboard(tmp_path, like=tmp_path / "alone")
    assert [run.name for run in board.runs] == ["alone"]


def test_like_a_run_that_no_other_is_like_is_refused(tmp_path: Path) -> None:
    board_run(tmp_path / "runs" / "one", {"base": 0.0})
    board_run(tmp_path / "other", {"base": 0.2}, values=values_of({"base": 0.2}, dialogues=60))
    with pytest.raises(InputError, match="asked the same dialogues"):
        leaderboard(tmp_path / "runs", like=tmp_path / "other")


def test_other_prompts_of_the_same_dialogues_stand_apart(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        folder = board_run(tmp_path / name, {"base": 0.0}, seed=ord(name))
    rows = [row.model_copy(update={"prompt": f"### {row.prompt}"}) for row in folder.dialogues()]
    write_rows(folder.dialogues_path, rows)
    reseal(folder)
    assert "with other prompts" in reasons(leaderboard(tmp_path))["c"]


def test_a_further_set_is_not_mixed_with_runs_over_the_same_dialogues(tmp_path: Path) -> None:
    with_sets(board_run(tmp_path / "run", {"base": 0.0}), "clinic", general=values_of({"base": 0.1}, seed=1))
    board = leaderboard(tmp_path)
    assert [run.name for run in board.runs] == ["run"]
    assert "about the set 'general'" in reasons(board)["run/sets/general"]
    of_set = leaderboard(tmp_path, like=tmp_path / "run" / "sets" / "general")
    assert [run.name for run in of_set.runs] == ["run/sets/general"]


def test_another_signature_or_decoding_stands_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        board_run(tmp_path / name, {"base": 0.0}, seed=ord(name))
    board_run(tmp_path / "longer", {"base": 0.0}, generation={"max_new_tokens": 512})
    stemmed = board_run(tmp_path / "stemmed", {"base": 0.0})
    summary = json.loads(stemmed.summary_path.read_text())
    summary["metrics"]["quality.rouge_l"]["signature"] = "rouge_l|stemmer:yes"
    stemmed.summary_path.write_text(json.dumps(summary))
    reseal(stemmed)
    told = reasons(leaderboard(tmp_path))
    assert "decoded with other settings" in told["longer"]
    assert "rouge_l|stemmer:yes, not" in told["stemmed"]
    # The likelihood of the references does not depend on how replies are decoded.
    assert "longer" not in reasons(leaderboard(tmp_path, metric="quality.nll"))


def test_the_same_weights_with_the_same_replies_are_one_entry_the_newest(tmp_path: Path) -> None:
    variants = (facts("base", "base", model_digest="v2:1"),)
    for day, name in ((2, "b-first"), (3, "a-second")):
        board_run(tmp_path / name, {"base": 0.0}, variants=variants, finished=f"2026-11-0{day}T00:00:00+00:00")
    (one,) = leaderboard(tmp_path).ranked
    assert (one.entry.run.name, one.entry.also) == ("a-second", ("b-first:base",))


def test_variants_that_are_folded_within_a_run_keep_their_names(tmp_path: Path) -> None:
    same = {"base": 0.0, "again": 0.0, "thrice": 0.0}
    values = {name: values_of({"base": 0.0})["base"] for name in same}
    variants = tuple(facts(name, "base", model_digest="v2:1") for name in same)
    board_run(tmp_path / "run", same, values=values, variants=variants)
    (one,) = leaderboard(tmp_path).ranked
    assert (one.entry.variant, one.entry.also) == ("base", ("run:again", "run:thrice"))


@pytest.mark.parametrize("finished", ["not a date", "zzzz", "2026-13-45", "9999-12-31T23:59:59-23:00"])
def test_what_is_no_date_is_not_the_newest(tmp_path: Path, finished: str) -> None:
    variants = (facts("base", "base", model_digest="v2:1"),)
    board_run(tmp_path / "dated", {"base": 0.0}, variants=variants, finished="2026-11-01T00:00:00+00:00")
    board_run(tmp_path / "undated", {"base": 0.0}, variants=variants, finished=finished)
    (one,) = leaderboard(tmp_path).ranked
    assert (one.entry.run.name, one.entry.folded[0].run.when) == ("dated", "unknown")


def test_dates_of_other_time_zones_are_compared_as_moments(tmp_path: Path) -> None:
    variants = (facts("base", "base", model_digest="v2:1"),)
    board_run(tmp_path / "later", {"base": 0.0}, variants=variants, finished="2026-11-01T23:00:00-02:00")
    board_run(tmp_path / "earlier", {"base": 0.0}, variants=variants, finished="2026-11-02T00:30:00+00:00")
    (one,) = leaderboard(tmp_path).ranked
    assert (one.entry.run.name, one.entry.run.when) == ("later", "2026-11-02T01:00:00")


@pytest.mark.parametrize("changed", [{"model_digest": "v2:2"}, {"quantization": "nf4"}, {"dtype": "bfloat16"}])
def test_other_weights_with_the_same_replies_are_two_entries(tmp_path: Path, changed: dict[str, str]) -> None:
    one = {"model_digest": "v2:1"}
    board_run(tmp_path / "a", {"base": 0.0}, variants=(facts("base", "base", **one),))
    board_run(tmp_path / "b", {"base": 0.0}, variants=(facts("base", "base") | one | changed,))
    assert len(leaderboard(tmp_path).ranked) == 2


def test_the_same_weights_with_other_replies_are_two_entries(tmp_path: Path) -> None:
    variants = (facts("base", "base", model_digest="v2:1"),)
    board_run(tmp_path / "a", {"base": 0.0}, variants=variants)
    other = board_run(tmp_path / "b", {"base": 0.0}, variants=variants)
    rows = [row.model_copy(update={"reply": "Otherwise."}) for row in other.replies("base")]
    write_rows(other.replies_path("base"), rows)
    reseal(other)
    assert len(leaderboard(tmp_path).ranked) == 2


def test_who_skips_more_than_a_hundredth_is_not_ranked(tmp_path: Path) -> None:
    board_run(tmp_path / "a", {"base": 0.0})
    board_run(tmp_path / "b", {"lazy": 0.2}, unanswered={"lazy": ["d0000", "d0001"]})
    board = leaderboard(tmp_path)
    assert ranked(board) == [("a", "base", 0)]
    assert reasons(board)["lazy of b"] == f"It answered {DIALOGUES - 2} dialogues where others answered {DIALOGUES}."


def test_a_summary_that_claims_more_answers_than_dialogues_unranks_nobody(tmp_path: Path) -> None:
    board_run(tmp_path / "a", {"base": 0.0})
    lying = board_run(tmp_path / "b", {"base": 0.1})
    summary = json.loads(lying.summary_path.read_text())
    summary["coverage"]["base"]["answered"] = 10 * DIALOGUES
    lying.summary_path.write_text(json.dumps(summary))
    reseal(lying)
    assert len(leaderboard(tmp_path).ranked) == 2


def test_likelihoods_per_token_of_different_tokenizers_are_not_ranked(tmp_path: Path) -> None:
    board_run(tmp_path / "a", {"base": 0.0})
    other_tokenizer(board_run(tmp_path / "b", {"base": 0.1}))
    with pytest.raises(InputError, match=r"different tokenizers. Rank by quality.bits_per_byte"):
        leaderboard(tmp_path, metric="quality.nll")
    assert leaderboard(tmp_path).likelihood == "quality.bits_per_byte"


def other_tokenizer(folder: RunFolder) -> None:
    rows = [
        row.model_copy(update={"statistics": {"quality.nll": (nll, 2 * tokens)}, "reference_tokens": 2 * int(tokens)})
        for row in folder.replies("base")
        for nll, tokens in (row.statistics["quality.nll"],)
    ]
    write_rows(folder.replies_path("base"), rows)
    reseal(folder, summarized=True)


def test_without_overlap_the_likelihood_ranks(tmp_path: Path) -> None:
    values = {name: {"quality.nll": one["quality.nll"]} for name, one in values_of({"a": 0.0, "b": 0.1}).items()}
    board_run(tmp_path / "run", {"a": 0.0, "b": 0.1}, values=values)
    board = leaderboard(tmp_path)
    assert (board.metric, ranked(board)) == ("quality.nll", [("run", "b", 0), ("run", "a", 1)])


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("quality.roug_l", "Did you mean 'quality.rouge_l'"),
        ("latency.tpot_ms.p50", "not measured of each reply"),
        ("quality.length_ratio", "only a range of it is good"),
        ("quality.chrf", "has quality.chrf"),
    ],
)
def test_what_cannot_rank_is_refused(tmp_path: Path, metric: str, told: str) -> None:
    board_run(tmp_path / "run", {"base": 0.0})
    with pytest.raises(InputError, match=told):
        leaderboard(tmp_path, metric=metric)


def test_a_folder_without_a_finished_run_says_why(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="contains no finished run"):
        leaderboard(tmp_path)
    board_run(tmp_path / "run", {"base": 0.0}, state="running")
    with pytest.raises(InputError, match=r"contains no finished run. run: It is running, or was interrupted."):
        leaderboard(tmp_path)


def test_a_run_whose_sealed_replies_are_nonsense_does_not_stop_the_others(tmp_path: Path) -> None:
    board_run(tmp_path / "good", {"base": 0.0})
    bad = board_run(tmp_path / "bad", {"base": 0.0})
    sealed = bad.read_manifest().digests
    bad.replies_path("base").write_text('{"id": 7}\n')
    change_manifest(bad, digests={**sealed, "replies/base.jsonl": digest_file(bad.replies_path("base"))})
    board = leaderboard(tmp_path)
    assert ranked(board) == [("good", "base", 0)]
    assert "line 1: not a ReplyRow" in reasons(board)["bad"]


def test_settings_of_another_shape_are_no_error(tmp_path: Path) -> None:
    strange: Any = {"generation": [1], "latency": "often", "memory": 3, "stats": []}
    folder = board_run(tmp_path / "run", {"base": 0.0}, tokens_ms={"base": [10.0] * 8})
    change_manifest(folder, config=strange, provenance={"hardware": [], "git": 3})
    assert machines(leaderboard(tmp_path).runs)
    assert len(leaderboard(tmp_path).ranked) == 1
