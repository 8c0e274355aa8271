"""transformers' own generate, as the slow path and the eager engine use it."""

from __future__ import annotations

import pytest
import torch

from harness.backends.base import DecodingSettings, ReplyRequest
from harness.backends.local.generate import generate_batch, generation_settings, ignored_settings
from harness.backends.local.timed import CompiledEngine, EagerEngine
from tests.backends.local.test_decoding import SETTINGS, decoded, lent, requests

PENALTIES = {
    "repetition_penalty": 5.0, "no_repeat_ngram_size": 2, "sequence_bias": [[[7], -50.0]], "min_new_tokens": 20,
    "forced_eos_token_id": 5, "exponential_decay_length_penalty": [2, 3.0],
}  # fmt: skip


def test_no_setting_of_the_models_own_changes_a_reply() -> None:
    loaded, wanted = lent(), requests(6)
    before = [reply.tokens for reply in generate_batch(loaded, wanted, SETTINGS)]
    for name, value in PENALTIES.items():
        setattr(loaded.model.generation_config, name, value)
    assert [reply.tokens for reply in generate_batch(loaded, wanted, SETTINGS)] == before
    assert ignored_settings(loaded.model) == PENALTIES
    assert loaded.model.generation_config.repetition_penalty == 5.0  # it still is the model's own afterwards


@pytest.mark.parametrize("natural", [False, True])
def test_a_penalty_of_the_models_own_leaves_both_timed_engines_with_the_same_work(natural: bool) -> None:
    loaded = lent()
    loaded.model.generation_config.repetition_penalty = 5.0
    room = 40
    eager = EagerEngine(loaded).request([[1, 5, 9]], 24, natural=natural, room=room)
    slots = CompiledEngine(loaded, room=room).request([[1, 5, 9]], 24, natural=natural, room=room)
    assert len(eager.stamps_ns) == len(slots.stamps_ns)
    assert eager.tokens[0][: len(slots.tokens[0])] == slots.tokens[0]


def test_settings_that_a_run_decides_itself_are_not_reported_as_ignored() -> None:
    loaded = lent()
    loaded.model.generation_config.update(do_sample=True, temperature=0.6, top_p=0.9, max_length=99)
    assert ignored_settings(loaded.model) == {}


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_an_error_as_in_slots(temperature: float) -> None:
    loaded = lent()
    settings = DecodingSettings(12, temperature=temperature, seed=3)
    wanted = requests(6)
    poison = wanted[3].ids[-1]
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[poison] = float("nan")
    slots = decoded(loaded, wanted, settings)
    assert slots["r3"].error == "the logits are not finite"
    for request in wanted:
        (slow,) = generate_batch(loaded, [request], settings)
        if temperature == 0.0 or poison in request.ids:  # the two draw differently
            fast = slots[request.id]
            assert (slow.error, slow.tokens, slow.finish) == (fast.error, fast.tokens, fast.finish)
            assert len(slow.stamps_ns) == len(fast.stamps_ns)


def test_a_row_without_finite_logits_leaves_the_others_of_its_batch_alone() -> None:
    loaded = lent()
    clean = ReplyRequest("clean", (1, 5, 6, 7))
    (alone,) = generate_batch(loaded, [clean], SETTINGS)
    bad = next(token for token in range(60, 100) if token not in alone.tokens)
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[bad] = float("nan")
    broken, beside = generate_batch(loaded, [ReplyRequest("broken", (1, 5, 6, bad)), clean], SETTINGS)
    assert broken.error == "the logits are not finite"
    assert (beside.error, beside.tokens) == (None, alone.tokens)


def test_the_models_settings_are_back_even_after_an_error() -> None:
    model = lent().model
    before = model.generation_config
    with pytest.raises(KeyError), generation_settings(model, max_new_tokens=3):
        raise KeyError
    assert model.generation_config is before
