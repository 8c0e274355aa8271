"""Attention by row lengths, as on CUDA, with a plain stand-in for the kernel."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
import torch

from harness.backends.local import selfcheck
from harness.backends.local import slots as attention
from harness.backends.local.batches import columns_for
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.pool import LoadedModel
from harness.backends.local.selfcheck import why_not
from harness.backends.local.slots import SlotAttention
from harness.variants.model import Variant
from tests.backends.local.small_models import END, WORDS, small_llama, small_tokenizer
from tests.backends.local.test_decoding import SETTINGS, lent, plain, requests


def kernel(
    query: Any, keys: Any, values: Any, lengths: Any, scale: float, window: int, softcap: float, sinks: Any
) -> torch.Tensor:
    """One query a row, looking at exactly its own keys, or those of its window."""
    rows, heads, _ = query.shape
    out = torch.empty_like(query)
    for row in range(rows):
        length = int(lengths[row])
        assert 1 <= length <= keys.shape[2]
        seen = slice(max(0, length - window) if window else 0, length)
        k, v = (x[row, :, seen].repeat_interleave(heads // keys.shape[1], 0) for x in (keys, values))
        scores = (query[row][:, None] @ k.transpose(1, 2)) * scale
        if softcap:
            scores = softcap * (scores / softcap).tanh()
        if sinks is not None:
            scores = torch.cat((scores, sinks[:, None, None]), dim=-1)
        out[row] = (scores.softmax(-1)[..., : k.shape[1]] @ v)[:, 0]
    return out


@pytest.fixture
def by_lengths(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "why_not_fused", lambda model, device: None)
    monkeypatch.setattr(attention, "attend", kernel)


@pytest.mark.usefixtures("by_lengths")
@pytest.mark.parametrize("rows", [1, 5])
def test_replies_by_row_lengths_equal_generate(rows: int) -> None:
    loaded = lent()
    wanted = requests(12)
    columns = columns_for(wanted, SETTINGS)
    decoder = SlotDecoder(loaded, SETTINGS, rows=rows, columns=columns, by_lengths=True)
    replies = {reply.id: reply.tokens for reply in decoder.run(deque(wanted))}
    assert replies == {request.id: plain(loaded, request) for request in wanted}


@pytest.mark.usefixtures("by_lengths")
def test_the_models_own_attention_is_back_afterwards() -> None:
    model = small_llama()
    before = model.config._attn_implementation
    with SlotAttention(model, 64, "cpu", by_lengths=True).installed():
        assert model.config._attn_implementation == attention.NAME
    assert model.config._attn_implementation == before


def test_a_model_that_decodes_right_in_slots_has_no_obstacle() -> None:
    assert why_not(small_llama(), "cpu", 128, by_lengths=False) is None


@pytest.mark.usefixtures("by_lengths")
def test_a_kernel_that_reads_one_key_too_few_is_found_before_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    def off_by_one(q: Any, k: Any, v: Any, lengths: Any, *others: Any) -> torch.Tensor:
        return kernel(q, k, v, lengths - 1, *others)

    monkeypatch.setattr(attention, "attend", off_by_one)
    assert "changes its logits" in str(why_not(small_llama(), "cpu", 128, by_lengths=True))


def test_positions_that_are_one_off_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = SlotAttention.arguments
    monkeypatch.setattr(SlotAttention, "arguments", lambda self, positions, window: real(self, positions - 1, window))
    assert "changes its logits" in str(why_not(small_llama(), "cpu", 128, by_lengths=False))


@pytest.mark.parametrize("vocabulary", [100, 32_000])
def test_rounding_is_not_held_against_a_large_vocabulary(vocabulary: int) -> None:
    want = torch.randn(2, 2, vocabulary, generator=torch.Generator().manual_seed(0))
    noise = 0.06 * torch.randn(2, 2, vocabulary, generator=torch.Generator().manual_seed(1))
    assert selfcheck.distance(want + noise, want) == pytest.approx(0.06, rel=0.15)


@pytest.mark.parametrize("shift", [-1, 1])
def test_a_mask_that_is_one_off_is_told_from_rounding_in_bfloat16(shift: int, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_llama(4, num_hidden_layers=8).to(torch.bfloat16)
    assert why_not(model, "cpu", 128, by_lengths=False) is None
    real = SlotAttention.arguments
    monkeypatch.setattr(SlotAttention, "arguments", lambda self, at, window: real(self, at + shift, window))
    assert "changes its logits" in str(why_not(model, "cpu", 128, by_lengths=False))


EVERY_SECOND = ["sliding_attention", "full_attention"]
WINDOWED: dict[str, dict[str, Any]] = {
    "mistral": {},
    "phi3": {},
    "gemma2": {"layer_types": EVERY_SECOND},
    "gemma3_text": {"layer_types": EVERY_SECOND},
    "gpt_oss": {"layer_types": EVERY_SECOND, "num_local_experts": 2, "num_experts_per_tok": 1},
}


def windowed(kind: str, window: int = 10) -> Any:
    """A random model of two layers, with a window shorter than most prompts."""
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(
        kind, vocab_size=len(WORDS), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, initializer_range=0.3, bos_token_id=1, eos_token_id=END, pad_token_id=END,
        max_position_embeddings=128, sliding_window=window, **WINDOWED[kind],
    )  # fmt: skip
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()


@pytest.mark.parametrize("by_row_lengths", [False, True])
@pytest.mark.parametrize("kind", list(WINDOWED))
def test_contexts_longer_than_a_sliding_window_decode_in_slots_as_they_generate(
    kind: str, by_row_lengths: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_row_lengths:
        monkeypatch.setattr(attention, "why_not_fused", lambda model, device: None)
        monkeypatch.setattr(attention, "attend", kernel)
    loaded = LoadedModel(Variant(name="m", kind="base", model="m"), windowed(kind), small_tokenizer(), "cpu", 0.0)
    wanted = requests(8)
    columns = columns_for(wanted, SETTINGS)
    assert why_not(loaded.model, "cpu", columns, by_lengths=by_row_lengths) is None
    decoder = SlotDecoder(loaded, SETTINGS, rows=3, columns=columns, by_lengths=by_row_lengths)
    replies = {reply.id: reply.tokens for reply in decoder.run(deque(wanted))}
    assert replies == {request.id: plain(loaded, request) for request in wanted}


def windowed_plainly(query: Any, key: Any, value: Any, window: int, scaling: float | None) -> torch.Tensor:
    """What flash attention with a window gives, by a mask."""
    place = torch.arange(query.shape[2])
    seen = (place[None] <= place[:, None]) & (place[None] > place[:, None] - window)
    found = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=seen, scale=scaling, enable_gqa=True
    )
    return found.transpose(1, 2)


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_prompts_longer_than_a_window_go_to_flash_attention_where_it_can_read_windows(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def flash(*given: Any) -> torch.Tensor:
        seen.append(given[3])
        return windowed_plainly(*given)

    monkeypatch.setattr(attention, "can_read_windows", lambda query: True)
    monkeypatch.setattr(attention, "flash_in_window", flash)
    loaded = LoadedModel(Variant(name="m", kind="base", model="m"), windowed(kind), small_tokenizer(), "cpu", 0.0)
    wanted = requests(8)
    decoder = SlotDecoder(loaded, SETTINGS, rows=3, columns=columns_for(wanted, SETTINGS))
    replies = {reply.id: reply.tokens for reply in decoder.run(deque(wanted))}
    assert replies == {request.id: plain(loaded, request) for request in wanted}
    assert set(seen) == {10}


def test_a_model_that_computes_its_own_attention_gets_masks(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import FalconConfig, FalconForCausalLM

    monkeypatch.setattr(attention, "why_not_fused", lambda model, device: None)
    config = FalconConfig(vocab_size=124, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, num_kv_heads=1)
    found = SlotAttention(FalconForCausalLM(config).eval(), 64, "cpu", by_lengths=True)
    assert not found.reads_own_lengths
    assert found.arguments(torch.tensor([3, 5]), 64)["attention_mask"].shape == (2, 1, 1, 64)


@pytest.mark.parametrize("kind", ["mistral", "gemma3_text"])
def test_a_window_that_the_mask_leaves_out_is_found(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = SlotAttention._mask
    monkeypatch.setattr(SlotAttention, "_mask", lambda self, at, columns, window: real(self, at, columns, None))
    assert "changes its logits" in str(why_not(windowed(kind), "cpu", 128, by_lengths=False))


@pytest.mark.usefixtures("by_lengths")
def test_what_the_kernel_cannot_do_is_an_obstacle(monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_llama()
    real = SlotAttention._attend

    def biased(self: SlotAttention, *given: Any, **named: Any) -> Any:
        return real(self, *given, **{**named, "position_bias": torch.zeros(1)})

    monkeypatch.setattr(SlotAttention, "_attend", biased)
    assert "kernel lacks" in str(why_not(model, "cpu", 64, by_lengths=True))


def test_a_recurrent_model_is_an_obstacle_and_not_a_crash() -> None:
    from transformers import MambaConfig, MambaForCausalLM

    model = MambaForCausalLM(MambaConfig(vocab_size=124, hidden_size=32, num_hidden_layers=1, state_size=4)).eval()
    assert selfcheck.why_not(model, "cpu", 64, by_lengths=False) is not None
