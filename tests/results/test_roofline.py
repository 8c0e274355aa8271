"""The roofline's arithmetic, on numbers worked out by hand."""

from __future__ import annotations

import pytest

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


def test_rooflines_come_back_from_a_runs_provenance() -> None:
    from dataclasses import asdict

    facts = {"roofline": {"base": {"floor_ms": 3.0, "limits": asdict(H200), "footprint": asdict(LLAMA)}, "odd": {}}}
    assert rooflines(facts) == {"base": Roofline(H200, LLAMA)}
    assert rooflines({}) == {}
