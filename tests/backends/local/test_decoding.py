"""The fast decoder gives the replies that plain ``generate`` gives, whatever the batch."""

from __future__ import annotations

import dataclasses
import gc
import random
from collections import deque
from typing import Any

import pytest
import torch

from harness.backends.base import DecodingSettings, ReplyRequest
from harness.backends.local.batches import columns_for
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.generate import generate_batch
from harness.backends.local.pool import LoadedModel, SharedPool
from harness.backends.local.replies import generate_replies
from harness.backends.local.sampling import StopStrings
from harness.backends.local.slots import SlotLayer
from harness.variants.model import Variant
from tests.backends.local.small_models import END, WORDS, small_llama, small_tokenizer
from tests.dialogues.chat_templates import MARKED, with_template

SETTINGS = DecodingSettings(max_new_tokens=24)


def lent(**options: Any) -> LoadedModel:
    variant = Variant(name="m", kind="base", model="m")
    return LoadedModel(variant, small_llama(end_scale=2.0, **options), small_tokenizer(), "cpu", 0.0)


def requests(count: int, seed: int = 0) -> list[ReplyRequest]:
    pick = random.Random(seed)
    return [
        ReplyRequest(f"r{i}", (1, *(pick.randrange(3, len(WORDS)) for _ in range(pick.randrange(1, 30)))))
        for i in range(count)
    ]


def plain(loaded: LoadedModel, request: ReplyRequest, settings: DecodingSettings = SETTINGS) -> tuple[int, ...]:
    """The request's reply by transformers at batch 1."""
    ids = torch.tensor([request.ids])
    made = loaded.model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=settings.max_new_tokens, do_sample=False
    )
    tokens = made[0, len(request) :].tolist()
    return tuple(tokens[: tokens.index(END)] if END in tokens else tokens)


def decoded(
    loaded: LoadedModel, wanted: list[ReplyRequest], settings: DecodingSettings = SETTINGS, rows: int = 4
) -> dict[str, Any]:
    decoder = SlotDecoder(loaded, settings, rows=rows, columns=columns_for(wanted, settings))
    return {reply.id: reply for reply in decoder.run(deque(wanted))}


@pytest.mark.parametrize("rows", [1, 3, 8, 40])
def test_greedy_replies_equal_generate_at_batch_one(rows: int) -> None:
    loaded = lent()
    wanted = requests(30)
    replies = decoded(loaded, wanted, rows=rows)
    assert {r.id: replies[r.id].tokens for r in wanted} == {r.id: plain(loaded, r) for r in wanted}
    assert {reply.finish for reply in replies.values()} == {"eos", "length"}  # both ways of ending were tried


def test_order_of_the_dialogues_changes_no_reply() -> None:
    loaded = lent()
    wanted = requests(20)
    shuffled = random.Random(7).sample(wanted, len(wanted))
    assert {k: v.tokens for k, v in decoded(loaded, wanted).items()} == {
        k: v.tokens for k, v in decoded(loaded, shuffled).items()
    }


def test_a_stop_string_ends_its_row_alone_and_is_cut_off() -> None:
    loaded = lent()
    wanted = requests(12)
    free = decoded(loaded, wanted)
    first = next(reply for reply in free.values() if len(reply.tokens) > 5)
    words = first.text.split()
    stop = f"{words[2]} {words[3]}"
    replies = decoded(loaded, wanted, DecodingSettings(24, stop=(stop,)))
    assert replies[first.id].finish == "stop"
    assert replies[first.id].text == first.text[: first.text.index(stop)]
    for name, reply in replies.items():
        assert stop not in reply.text
        if stop not in free[name].text:
            assert reply.tokens == free[name].tokens


@pytest.mark.parametrize("engine", ["slots", "generate"])
def test_a_stop_string_that_is_a_special_token_stops_as_it_does_in_transformers(engine: str) -> None:
    loaded = dataclasses.replace(lent(), tokenizer=small_tokenizer(["abcdef"]))  # a word that generate asks for
    wanted = requests(12)
    free = decoded(loaded, wanted)
    stop = next(reply for reply in free.values() if len(reply.tokens) > 8).text.split()[5]
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": [stop]})
    settings = DecodingSettings(24, stop=(stop,))
    if engine == "slots":
        replies = decoded(loaded, wanted, settings)
    else:
        replies = {reply.id: reply for reply in generate_batch(loaded, wanted, settings)}
    stopped = [request for request in wanted if replies[request.id].finish == "stop"]
    assert stopped
    assert {request.id for request in stopped} == {name for name, reply in free.items() if stop in reply.text}
    for request in stopped:
        ids = torch.tensor([request.ids])
        made = loaded.model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False,
            stop_strings=[stop], tokenizer=loaded.tokenizer,
        )[0, len(request) :].tolist()  # fmt: skip
        assert [*replies[request.id].tokens, made[-1]] == made
        assert replies[request.id].text == loaded.tokenizer.decode(made[:-1])


def test_a_stop_string_across_special_tokens_is_cut_where_it_begins() -> None:
    tokenizer = small_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["w7", "w9"]})
    ids = tokenizer("w7 w21 w22 w9 w23", add_special_tokens=False)["input_ids"]
    assert StopStrings(("2 w9 w23",), tokenizer).cut(ids) == "w21 w2"
    assert StopStrings(("w9 w23",), tokenizer).cut(ids) == "w21 w22"
    assert StopStrings(("w23", "w22 w9"), tokenizer).cut(ids[:4]) == "w21 "
    assert StopStrings(("w24",), tokenizer).cut(ids) is None


def test_a_stop_string_stops_as_one_token_and_spelled_out() -> None:
    tokenizer = with_template(MARKED, bos=False)
    stops = StopStrings(("<|im_end|>",), tokenizer)
    rest, whole, *parts = (tokenizer(text)["input_ids"] for text in ("Rest.", "<|im_end|>", "<|im_", "end|>"))
    spelled = [token for part in parts for token in part]
    assert (len(whole), len(spelled)) == (1, 10)
    for end in (whole, spelled):
        assert stops.cut([*rest, *end[:-1], *rest]) is None
        assert stops.cut([*rest, *end]) == "Rest."


def test_any_of_several_end_tokens_ends_a_reply() -> None:
    loaded = lent()
    wanted = requests(12)
    longest = max(decoded(loaded, wanted).values(), key=lambda reply: len(reply.tokens))
    second_end = longest.tokens[3]
    loaded.model.generation_config.eos_token_id = [END, second_end]
    reply = decoded(loaded, wanted)[longest.id]
    assert reply.finish == "eos"
    assert reply.tokens == longest.tokens[: longest.tokens.index(second_end)]


def test_fixed_length_replies_do_not_end_early() -> None:
    loaded = lent()
    replies = decoded(loaded, requests(9), DecodingSettings(16, fixed_length=True))
    assert {len(reply.tokens) for reply in replies.values()} == {16}


def test_every_token_has_a_rising_stamp() -> None:
    replies = decoded(lent(), requests(9))
    for reply in replies.values():
        made = len(reply.tokens) + (reply.finish == "eos")
        assert len(reply.stamps_ns) == made
        assert reply.submitted_ns < reply.stamps_ns[0]
        assert list(reply.stamps_ns) == sorted(set(reply.stamps_ns))


def test_sampled_replies_depend_on_the_dialogue_and_seed_not_on_the_batch() -> None:
    loaded = lent()
    wanted = requests(15)
    sampled = DecodingSettings(16, temperature=1.0, top_p=0.9, seed=3)
    alone = decoded(loaded, wanted, sampled, rows=1)
    together = decoded(loaded, list(reversed(wanted)), sampled, rows=8)
    assert {k: v.tokens for k, v in alone.items()} == {k: v.tokens for k, v in together.items()}
    other = decoded(loaded, wanted, DecodingSettings(16, temperature=1.0, top_p=0.9, seed=4))
    assert any(other[k].tokens != v.tokens for k, v in alone.items())


def test_logits_that_are_no_numbers_fail_their_dialogue_alone() -> None:
    loaded = lent()
    wanted = requests(8)
    poison = wanted[3].ids[-1]
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[poison] = float("nan")
    replies = decoded(loaded, wanted)
    for request in wanted:
        if poison in request.ids:
            assert replies[request.id].error == "the logits are not finite"
        elif poison not in replies[request.id].tokens:
            assert replies[request.id].error is None
    assert replies["r3"].finish is None


@pytest.mark.parametrize("kind", ["mistral", "qwen2", "qwen3", "gemma", "gpt_neox"])
def test_other_architectures_decode_in_slots_as_they_generate(kind: str) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = AutoConfig.for_model(
        kind, **sizes, vocab_size=len(WORDS), num_key_value_heads=2, head_dim=8, initializer_range=0.3, bos_token_id=1,
        eos_token_id=END, pad_token_id=END, max_position_embeddings=128,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config).eval()
    loaded = LoadedModel(Variant(name="m", kind="base", model="m"), model, small_tokenizer(), "cpu", 0.0)
    wanted = requests(8)
    replies = decoded(loaded, wanted, rows=3)
    assert {r.id: replies[r.id].tokens for r in wanted} == {r.id: plain(loaded, r) for r in wanted}


def test_an_unmerged_adapter_decodes_as_it_generates(trio: tuple[Variant, Variant, Variant]) -> None:
    pool = SharedPool(trio)
    wanted = requests(10)
    with pool.use(trio[1]) as loaded:
        replies = decoded(loaded, wanted)
        assert {r.id: replies[r.id].tokens for r in wanted} == {r.id: plain(loaded, r) for r in wanted}
    with pool.use(trio[0]) as loaded:
        base = decoded(loaded, wanted)
    assert any(base[k].tokens != v.tokens for k, v in replies.items())


def test_slots_are_let_go_of_when_the_replies_are_made() -> None:
    """Cache and layers refer to each other: left to the collector, they would take the next variant's memory."""
    gc.collect()
    gc.disable()
    try:
        assert len(list(generate_replies(lent(), requests(3), SETTINGS))) == 3
        held = [one for one in gc.get_objects() if isinstance(one, SlotLayer) and one.keys is not None]
    finally:
        gc.enable()
    # The self-check's little cache, of two rows, may still be there.
    assert not [layer for layer in held if layer.keys is not None and layer.keys.shape[0] > 2]
