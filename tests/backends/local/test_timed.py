"""Both engines answer alike; an engine that cannot drive a model says why."""

from __future__ import annotations

import pytest
import torch

from harness.backends.local.pool import LoadedModel
from harness.backends.local.timed import CompiledEngine, EagerEngine, UnsupportedError
from harness.variants.model import Variant
from tests.backends.local.small_models import small_llama, small_tokenizer

PROMPTS = [[1, 5, 9, 30], [1, 7]]


@pytest.fixture
def loaded() -> LoadedModel:
    model = small_llama(3, num_hidden_layers=3)
    return LoadedModel(Variant(name="base", kind="base", model="-"), model, small_tokenizer(), "cpu", 0.0)


def test_both_engines_make_the_same_fixed_replies(loaded: LoadedModel) -> None:
    eager = EagerEngine(loaded).request(PROMPTS, 9, natural=False, room=13)
    slots = CompiledEngine(loaded, room=13).request(PROMPTS, 9, natural=False, room=13)
    assert eager.tokens == slots.tokens
    assert [len(one) for one in eager.tokens] == [9, 9]
    assert len(eager.stamps_ns) == len(slots.stamps_ns) == 9


def test_a_natural_reply_ends_where_the_model_ends_it(loaded: LoadedModel) -> None:
    with torch.no_grad():
        loaded.model.lm_head.weight.zero_()
        state = loaded.model.model(torch.tensor([PROMPTS[0]])).last_hidden_state[0, -1]
        loaded.model.lm_head.weight[2] = state
    for engine in (EagerEngine(loaded), CompiledEngine(loaded, room=13)):
        assert len(engine.request(PROMPTS[:1], 9, natural=True, room=13).stamps_ns) == 1


def test_a_model_that_slots_cannot_drive_is_refused_with_the_reason(loaded: LoadedModel) -> None:
    loaded.model.config.layer_types = ["chunked_attention"] * 3
    with pytest.raises(UnsupportedError, match="layers of kind chunked_attention"):
        CompiledEngine(loaded, room=64)
