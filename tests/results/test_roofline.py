"""The roofline's arithmetic, on numbers worked out by hand."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from harness.errors import InputError
from harness.results.roofline import Footprint, Limits, Roofline, rooflines

LLAMA = Footprint(
    weights=13_476_839_424,
    streamed=13_214_687_232,
    adapter=0,
    kv_per_token=2 * 32 * 32 * 128 * 2,
    parameters=6_476_267_520,
    layers=32,
    hidden=4096,
)
H200 = Limits("H200", "bfloat16", 4.3e12, 700e12)


def test_a_steps_floor_is_bytes_over_bandwidth() -> None:
    assert Roofline(H200, LLAMA).floor_ms(1, 0) == pytest.approx(3.073, abs=0.001)


def test_every_row_of_a_batch_reads_its_own_cache() -> None:
    roofline = Roofline(H200, LLAMA)
    added = roofline.floor_ms(64, 256) - roofline.floor_ms(64, 0)
    assert added == pytest.approx(1e3 * 64 * 256 * 524_288 / 4.3e12)


def test_a_prompt_costs_two_operations_a_weight_and_token_and_its_attention() -> None:
    # 2 * 6.476e9 * 1024 and 2 * 32 * 4096 * 1024^2 (causal half of QK and PV)
    assert LLAMA.prefill_flops(1024) == pytest.approx(2 * 6_476_267_520 * 1024 + 2 * 32 * 4096 * 1024**2)
    assert Roofline(H200, LLAMA).prefill_floor_ms(1024) == pytest.approx(19.34, abs=0.01)


def test_rows_that_fit_leave_room_for_weights_and_a_tenth() -> None:
    # 24 GB x 0.9 = 21.6 GB, less 13.48 GB of weights, over 0.537 GB a row of 1,024 tokens
    assert LLAMA.rows_that_fit(24e9, 1024) == 15
    assert LLAMA.rows_that_fit(12e9, 1024) == 0


def test_layers_with_a_window_cost_a_prompt_its_pairs_within_it() -> None:
    windowed = replace(LLAMA, window=3, layers_in_window=32, kv_in_window=LLAMA.kv_per_token)
    pairs = 1 * 3 * 3 / 2 + 7 * 3  # as the whole of n^2 / 2: a triangle of three, then three for each of seven more
    assert windowed.prefill_flops(10) == pytest.approx(2 * 6_476_267_520 * 10 + 4 * 32 * 4096 * pairs)
    assert Roofline(H200, windowed).floor_ms(1, 1000) == Roofline(H200, LLAMA).floor_ms(1, 3)


def test_experts_give_one_row_a_floor_and_a_batch_none() -> None:
    routed = replace(LLAMA, routed=True)
    assert Roofline(H200, routed).floor_ms(1, 0) == Roofline(H200, LLAMA).floor_ms(1, 0)
    assert Roofline(H200, routed).floor_ms(2, 0) is None


def test_what_was_not_counted_has_no_floor() -> None:
    unknown = Roofline(H200, replace(LLAMA, known=False))
    assert (unknown.floor_ms(1, 0), unknown.prefill_floor_ms(10)) == (None, None)


def test_a_run_folder_from_before_windows_and_experts_is_read() -> None:
    old = {key: value for key, value in asdict(LLAMA).items() if key in list(asdict(LLAMA))[:7]}
    facts = {"roofline": {"base": {"limits": asdict(H200), "footprint": old}}}
    assert rooflines(facts) == {"base": Roofline(H200, LLAMA)}


def test_rooflines_come_back_from_a_runs_provenance() -> None:
    facts = {"roofline": {"base": {"floor_ms": 3.0, "limits": asdict(H200), "footprint": asdict(LLAMA)}, "odd": {}}}
    assert rooflines(facts) == {"base": Roofline(H200, LLAMA)}
    assert rooflines({}) == {}


def test_a_footprint_without_layers_is_one_sentence() -> None:
    footprint = {key: value for key, value in asdict(LLAMA).items() if key != "layers"}
    with pytest.raises(InputError, match="roofline of 'base' is incomplete"):
        rooflines({"roofline": {"base": {"limits": asdict(H200), "footprint": footprint}}})
