"""Bytes of loaded models as they lie in memory: plain, 4-bit, int8, with adapters on and off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.local import one_token
from harness.backends.local.limits import footprint, measure_limits
from harness.backends.local.pool import SharedPool
from harness.results.roofline import Footprint, Limits
from harness.variants.model import Variant
from tests.backends.local.small_models import WORDS, save_base

LAYERS, WIDTH, INNER, VOCABULARY = 2, 128, 256, len(WORDS)
LINEAR = LAYERS * (2 * WIDTH * WIDTH + 2 * WIDTH * (WIDTH // 2) + 3 * WIDTH * INNER)  # q, o; k, v (two of four heads)
NORMS = (2 * LAYERS + 1) * WIDTH
LIMITS = Limits("device", "float32", 1e9, 1e12)
ROTARY = 2 * (WIDTH // 4 // 2) * 4  # two buffers of float32


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_base(tmp_path_factory.mktemp("base"), hidden_size=WIDTH, intermediate_size=INNER)


def of(base: Path, quantization: str, dtype: str) -> Footprint:
    variant = Variant.model_validate(
        {"name": "v", "kind": "base", "model": str(base), "quantization": quantization, "dtype": dtype}
    )
    with SharedPool((variant,), "cpu").use(variant) as loaded:
        return footprint(loaded.model)


def test_an_untied_embedding_is_weight_but_not_streamed(base: Path) -> None:
    sizes = of(base, "none", "float32")
    table = 4 * VOCABULARY * WIDTH
    assert sizes.streamed == 4 * (LINEAR + NORMS) + table
    assert sizes.weights == sizes.streamed + table + ROTARY
    assert sizes.parameters == LINEAR + NORMS
    assert sizes.kv_per_token == 2 * LAYERS * 2 * (WIDTH // 4) * 4


def test_a_tied_embedding_is_streamed_as_the_output_layer(tmp_path: Path) -> None:
    sizes = of(save_base(tmp_path, tie_word_embeddings=True), "none", "float32")
    assert sizes.streamed == sizes.weights - 2 * (64 // 4 // 2) * 4


def test_nf4_is_half_a_byte_a_weight_and_its_scales(base: Path) -> None:
    sizes = of(base, "nf4", "bfloat16")
    blocks = LINEAR // 64
    scales = blocks + 4 * sum(-(-size // 64 // 256) for size in layer_sizes())  # absmax in a byte, its own in fp32
    assert sizes.streamed == LINEAR // 2 + scales + 2 * (NORMS + VOCABULARY * WIDTH)
    assert sizes.parameters == LINEAR + NORMS


def layer_sizes() -> list[int]:
    return LAYERS * [WIDTH * WIDTH, WIDTH * WIDTH, WIDTH * WIDTH // 2, WIDTH * WIDTH // 2, *3 * [WIDTH * INNER]]


def test_int8_is_a_byte_a_weight_and_a_scale_a_row(base: Path) -> None:
    sizes = of(base, "int8", "bfloat16")
    rows = LAYERS * (2 * WIDTH + 2 * WIDTH // 2 + 2 * INNER + WIDTH)
    assert sizes.streamed == LINEAR + 4 * rows + 2 * (NORMS + VOCABULARY * WIDTH)


def test_int8_scales_are_found_where_the_first_forward_puts_them(base: Path) -> None:
    variant = Variant(name="v", kind="base", model=str(base), quantization="int8", dtype="bfloat16")
    with SharedPool((variant,), "cpu").use(variant) as loaded, torch.inference_mode():
        before = footprint(loaded.model)
        loaded.model(torch.tensor([[1, 5]]))
        assert footprint(loaded.model) == before


def test_only_the_adapter_that_is_on_costs_reads(trio: tuple[Variant, Variant, Variant]) -> None:
    pool = SharedPool(trio, "cpu")
    found = {}
    for variant in trio:
        with pool.use(variant) as loaded:
            found[variant.name] = footprint(loaded.model)
    rank, width, half, inner = 4, 64, 32, 128  # q and v (two of four heads), and down
    assert found["adapter"].adapter == 4 * 2 * rank * (2 * width + (width + half) + (inner + width))
    assert found["base"].adapter == found["merged"].adapter == 0
    assert found["adapter"].streamed == found["base"].streamed == found["merged"].streamed


SIZES: dict[str, Any] = {
    "vocab_size": 128, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip


def random(kind: str, **stated: Any) -> Footprint:
    """The footprint of a random model in fp32."""
    from transformers import AutoConfig, AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    model = auto.from_config(AutoConfig.for_model(kind, **(SIZES | stated)), dtype=torch.float32).eval()
    return footprint(model)


@pytest.mark.parametrize("kind", ["mixtral", "qwen3_moe", "gpt_oss"])
def test_a_token_reads_the_experts_it_is_sent_to(kind: str) -> None:
    stated = {"num_local_experts": 8, "num_experts": 8, "moe_intermediate_size": 96}
    one, all_of_them = (random(kind, num_experts_per_tok=count, **stated) for count in (1, 8))
    assert one.weights == all_of_them.weights
    expert = 3 * 64 * 96 + (2 * 96 + 64 if kind == "gpt_oss" else 0)  # gate, up, down, and their biases
    assert all_of_them.streamed - one.streamed == 4 * 4 * 7 * expert
    assert all_of_them.parameters - one.parameters == 4 * 7 * expert
    assert one.step_floor_s(LIMITS, 1, 10) is not None
    assert one.step_floor_s(LIMITS, 2, 10) is None  # depends on what the second row says


def test_latent_attention_caches_what_it_caches() -> None:
    sizes = random(
        "deepseek_v3", kv_lora_rank=24, q_lora_rank=16, qk_rope_head_dim=8, qk_nope_head_dim=16, v_head_dim=16,
        n_routed_experts=4, num_experts_per_tok=2, n_group=1, topk_group=1, moe_intermediate_size=32, head_dim=8,
        num_key_value_heads=4,
    )  # fmt: skip
    assert sizes.kv_per_token == 4 * 4 * (24 + 8)


def test_layers_with_a_window_read_a_window() -> None:
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    sizes = random("gemma3_text", sliding_window=100, layer_types=kinds)
    layer = 4 * 2 * 2 * 16
    assert (sizes.kv_per_token, sizes.kv_in_window, sizes.window, sizes.layers_in_window) == (
        4 * layer,
        3 * layer,
        100,
        3,
    )
    assert sizes.cache_read(60) == 60 * 4 * layer
    assert sizes.cache_read(1000) == 1000 * layer + 100 * 3 * layer


def test_a_model_that_keeps_something_else_has_no_floor() -> None:
    sizes = random("lfm2", layer_types=["conv", "full_attention", "conv", "full_attention"])
    assert (sizes.step_floor_s(LIMITS, 1, 10), sizes.prefill_flops(10), sizes.rows_that_fit(1e9, 10)) == (None,) * 3


def test_experts_that_cannot_be_counted_leave_no_floor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(one_token, "_is_experts", lambda module: False)
    assert random("mixtral", num_local_experts=4).step_floor_s(LIMITS, 1, 10) is None


def test_limits_are_measured_once_a_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("harness.backends.local.limits._bandwidth", lambda device: asked.append(device) or 2e10)
    monkeypatch.setattr("harness.backends.local.limits._matmul", lambda device, dtype: 3e11)
    first = measure_limits("cpu", cache=tmp_path / "limits.json")
    assert measure_limits("cpu", cache=tmp_path / "limits.json") == first
    assert (first.bandwidth_bytes_s, asked) == (2e10, ["cpu"])
