"""The numbers of replies as columns are those of the rows, to the last bit."""

from __future__ import annotations

import random

from harness.results.columns import NLL_SUMS, Columns, State
from harness.store.schema import ReplyRow

PLACES = {"a": 0, "b": 1, "c": 2}


def test_values_that_32_bits_cannot_hold_keep_all_of_theirs() -> None:
    value = random.Random(1).random()
    columns = Columns([ReplyRow(id="b", scores={"m": 1.0}), ReplyRow(id="a", scores={"m": value})], PLACES)
    values, defined = columns.values("m")
    assert values.tolist() == [value, 1.0, 0.0]
    assert defined.tolist() == [True, True, False]


def test_a_value_of_none_is_not_defined_but_its_metric_is_named() -> None:
    columns = Columns([ReplyRow(id="a", scores={"m": None}, undefined={"m": "not English"})], PLACES)
    assert columns.names == {"m"}
    assert not columns.values("m")[1].any()
    assert columns.undefined["m"] == {"not English": 1}


def test_statistics_that_are_not_equally_many_are_remembered() -> None:
    found = [ReplyRow(id="a", statistics={"m": (1.0, 2.0)}), ReplyRow(id="b", statistics={"m": (1.0,)})]
    assert Columns(found, PLACES).uneven == {"m"}


def test_a_likelihood_and_the_state_of_a_row_are_kept() -> None:
    columns = Columns([ReplyRow(id="c", reply="R", nll=3.5, reference_tokens=7, unfinished=True)], PLACES)
    assert columns.statistics[NLL_SUMS].numbers[2].tolist() == [3.5, 7.0]
    assert columns.state.tolist() == [0, 0, State.ROW | State.REPLY | State.NLL | State.UNFINISHED]


def test_a_reply_to_a_dialogue_of_no_unit_is_left_out() -> None:
    assert Columns([ReplyRow(id="x", reply="R")], PLACES).state.tolist() == [0, 0, 0]
