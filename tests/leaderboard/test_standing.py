"""Groups of systems of known quality."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm, studentized_range, ttest_rel

from harness.errors import InputError
from harness.leaderboard.standing import Contender, Place, stand
from harness.metrics.loading import all_specs
from harness.results.analysis import Analysis
from harness.stats.family import confidence_of_all_pairs
from harness.store.folder import RunFolder
from tests.leaderboard.made_boards import board_run, values_of

ROUGE = "quality.rouge_l"


def contenders(folder: RunFolder, metric: str = ROUGE) -> list[Contender]:
    analysis = Analysis(folder, registry=all_specs())
    names = analysis.measured.variants
    return [Contender(analysis, name, analysis.estimate(metric, name).value or 0.0) for name in names]


def groups(places: tuple[Place, ...]) -> list[set[str]]:
    return [{one.contender.variant for one in places if one.group == group} for group in range(places[-1].group + 1)]


def test_systems_far_apart_stand_alone_and_equal_ones_together(tmp_path: Path) -> None:
    folder = board_run(tmp_path / "run", {"base": 0.0, "a": 0.05, "b": 0.1, "c": 0.1})
    assert groups(stand(contenders(folder), ROUGE)) == [{"b", "c"}, {"a"}, {"base"}]


def test_where_lower_is_better_the_lowest_leads(tmp_path: Path) -> None:
    places = stand(contenders(board_run(tmp_path / "run", {"a": 0.0, "b": 0.1}), "quality.nll"), "quality.nll")
    assert [one.contender.variant for one in places] == ["b", "a"]
    assert places[1].difference is not None
    assert places[1].difference.value == pytest.approx(0.1, abs=0.01)


def test_groups_are_those_of_paired_t_tests_corrected_for_all_pairs(tmp_path: Path) -> None:
    gains = {name: 0.004 * place for place, name in enumerate("abcdef")}
    found = {name: np.array(one[ROUGE]) for name, one in values_of(gains, seed=4).items()}
    waiting = sorted(found, key=lambda name: -found[name].mean())
    expected = []
    while waiting:
        leader = waiting[0]
        tied = [one for one in waiting if one == leader or ttest_rel(found[leader], found[one]).pvalue > 0.05 / 15]
        expected.append(set(tied))
        waiting = [one for one in waiting if one not in tied]
    assert expected == [{"e", "f"}, {"b", "c", "d"}, {"a"}]
    assert groups(stand(contenders(board_run(tmp_path / "run", gains, seed=4)), ROUGE)) == expected


def test_each_difference_is_to_the_best_of_all_at_the_corrected_confidence(tmp_path: Path) -> None:
    gains = {"a": 0.0, "b": 0.05, "c": 0.1}
    values = {name: np.array(one[ROUGE]) for name, one in values_of(gains).items()}
    best, *others = stand(contenders(board_run(tmp_path / "run", gains)), ROUGE)
    assert best.difference is None
    for one in others:
        test = ttest_rel(values[one.contender.variant], values["c"])
        low, high = test.confidence_interval(1 - 0.05 / 3)
        assert one.difference is not None
        assert (one.difference.low, one.difference.high) == pytest.approx((low, high), abs=0.002)


def test_systems_of_several_runs_are_paired_by_dialogue(tmp_path: Path) -> None:
    """The dialogues' own levels differ by 0.06, so that unpaired values of 120 would not tell 0.01 apart."""
    one = contenders(board_run(tmp_path / "one", {"a": 0.01}, seed=1))
    other = contenders(board_run(tmp_path / "other", {"b": 0.0}, seed=2))
    assert groups(stand([*other, *one], ROUGE)) == [{"a"}, {"b"}]


def test_one_system_is_the_best_and_nothing_has_no_place(tmp_path: Path) -> None:
    assert [one.group for one in stand(contenders(board_run(tmp_path / "run", {"a": 0.0})), ROUGE)] == [0]
    assert stand([], ROUGE) == ()


def test_a_metric_of_which_only_a_range_is_good_ranks_nothing(tmp_path: Path) -> None:
    folder = board_run(tmp_path / "run", {"a": 0.0}, values={"a": {"quality.length_ratio": [1.0] * 20}})
    with pytest.raises(InputError, match="no better direction"):
        stand(contenders(folder, "quality.length_ratio"), "quality.length_ratio")


def test_four_systems_are_six_pairs() -> None:
    assert confidence_of_all_pairs(4) == pytest.approx(1 - 0.05 / 6)
    assert confidence_of_all_pairs(2) == confidence_of_all_pairs(1) == pytest.approx(0.95)


@pytest.mark.parametrize("systems", [2, 3, 10, 40])
def test_any_of_equal_systems_is_called_worse_than_the_best_in_at_most_5_percent(systems: int) -> None:
    """The largest difference of equal systems, over its standard error, is a studentized range over the root of two."""
    critical = norm.isf((1 - confidence_of_all_pairs(systems)) / 2)
    assert studentized_range.sf(critical * 2**0.5, systems, np.inf) <= 0.0501


@pytest.mark.parametrize(("systems", "share"), [(10, 0.15), (20, 0.23)])
def test_corrected_for_the_comparisons_with_the_best_alone_it_would_be_more(systems: int, share: float) -> None:
    """The shares that the documentation states: Holm's first step is Bonferroni's over those comparisons."""
    critical = norm.isf(0.05 / (systems - 1) / 2)
    assert studentized_range.sf(critical * 2**0.5, systems, np.inf) == pytest.approx(share, abs=0.005)
