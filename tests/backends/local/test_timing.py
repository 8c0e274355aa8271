"""Stamps: one for each token, none for the prompt, and never before the token is on the host."""

from __future__ import annotations

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from harness.backends.local.timed import StampStreamer, timed_generate


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=64, eos_token_id=2, bos_token_id=1, pad_token_id=2,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def test_prompt_gets_no_stamp_and_tokens_are_counted_not_calls() -> None:
    streamer = StampStreamer(rows=2)
    streamer.put(torch.zeros(2, 5, dtype=torch.long))
    streamer.put(torch.zeros(2, dtype=torch.long))
    streamer.put(torch.zeros(2, 3, dtype=torch.long))
    assert len(streamer.stamps_ns) == 1 + 3


def test_fixed_length_reply_has_exactly_that_many_stamps(model: LlamaForCausalLM) -> None:
    timed = timed_generate(model, [[1, 5, 6]], reply_tokens=7, ends=frozenset(), pad=2, device="cpu")
    assert len(timed.stamps_ns) == 7
    assert timed.submitted_ns < timed.stamps_ns[0]
    assert list(timed.stamps_ns) == sorted(timed.stamps_ns)


def test_batch_steps_are_stamped_once(model: LlamaForCausalLM) -> None:
    timed = timed_generate(model, [[1, 5, 6], [1, 7]], reply_tokens=4, ends=frozenset(), pad=2, device="cpu")
    assert len(timed.stamps_ns) == 4


def test_natural_reply_may_end_early(model: LlamaForCausalLM) -> None:
    with torch.no_grad():
        model.lm_head.weight.zero_()
        model.lm_head.weight[2] = 1.0
        model.lm_head.weight[2] *= torch.sign(model.model(torch.tensor([[1, 5]])).last_hidden_state[0, -1])
    timed = timed_generate(model, [[1, 5]], reply_tokens=9, ends={2}, pad=2, device="cpu")
    assert len(timed.stamps_ns) == 1
