"""Text to ids: the same ids as lm-evaluation-harness, and the same in training, scoring and generation."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialogues.prompts import load_template, shipped
from harness.dialogues.tokens import can_write, encode_prompt, encode_scored, encode_training
from harness.errors import HarnessError
from tests.dialogues.conftest import dialogue, make_tokenizer
from tests.shared_data import shared

BOS, EOS = 0, 1


def as_lm_evaluation_harness(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Encode a pair as its documentation says: white space at the context's end goes to the continuation."""
    stripped = context.rstrip()
    continuation = context[len(stripped) :] + continuation
    special = not (tokenizer.bos_token and stripped.startswith(tokenizer.bos_token))
    whole = tokenizer(stripped + continuation, add_special_tokens=special)["input_ids"]
    length = len(tokenizer(stripped, add_special_tokens=special)["input_ids"])
    return whole[:length], whole[length:]


def ids_of(text: str) -> list[int]:
    return make_tokenizer()(text, add_special_tokens=False)["input_ids"]


def test_special_tokens_stand_in_front_once(byte_tokenizer: Any) -> None:
    assert encode_prompt(byte_tokenizer, "ab") == [BOS, *ids_of("ab")]
    assert encode_prompt(byte_tokenizer, "<s>ab") == [BOS, *ids_of("ab")]
    assert encode_scored(byte_tokenizer, "<s>ab", "c") == encode_scored(byte_tokenizer, "ab", "c")


def test_generation_is_given_the_whole_prompt(byte_tokenizer: Any) -> None:
    assert encode_prompt(byte_tokenizer, "ab: \n  ") == [BOS, *ids_of("ab: \n  ")]


def test_scored_is_what_follows_the_prompt_without_its_trailing_white_space(byte_tokenizer: Any) -> None:
    ids, n_context = encode_scored(byte_tokenizer, "ab:\n", "cd")
    assert ids == [BOS, *ids_of("ab:\ncd")]
    assert ids[n_context:] == ids_of("\ncd")


def test_a_merge_across_the_border_is_scored_whole() -> None:
    tokenizer = make_tokenizer(merged=["  c"])
    ids, n_context = encode_scored(tokenizer, "ab:\n  ", "cd")
    prompt = encode_prompt(tokenizer, "ab:\n  ")
    assert ids[: len(prompt)] != prompt
    assert tokenizer.convert_ids_to_tokens(ids[n_context:]) == ["Ċ", "  c", "d"]


def test_without_a_beginning_token_nothing_is_put_in_front() -> None:
    tokenizer = make_tokenizer(bos=False)
    assert encode_prompt(tokenizer, "ab") == ids_of("ab")
    ids, n_context = encode_scored(tokenizer, "ab", "c")
    assert (ids, n_context) == (ids_of("abc"), 2)


def test_an_empty_prompt_leaves_one_token_to_be_conditional_on(byte_tokenizer: Any) -> None:
    without = make_tokenizer(bos=False)
    assert encode_scored(byte_tokenizer, "", "ab") == ([BOS, *ids_of("ab")], 1)
    assert encode_scored(without, " ", "ab") == ([EOS, *ids_of(" ab")], 1)
    assert encode_prompt(without, "") == [EOS]


def test_a_tokenizer_that_ends_texts_does_not_end_prompts_or_references() -> None:
    tokenizer = make_tokenizer(ends_texts=True)
    assert encode_prompt(tokenizer, "ab") == [BOS, *ids_of("ab")]
    assert encode_scored(tokenizer, "ab", "c") == ([BOS, *ids_of("abc")], 3)
    assert encode_training(tokenizer, "ab", "c").ids == [BOS, *ids_of("abc"), EOS]


def test_at_least_one_token_is_scored() -> None:
    tokenizer = make_tokenizer(merged=["abc"])
    ids, n_context = encode_scored(tokenizer, "ab", "c")
    assert (len(ids), n_context) == (2, 1)


def test_an_empty_reference_cannot_be_scored(byte_tokenizer: Any) -> None:
    with pytest.raises(HarnessError, match="empty reference"):
        encode_scored(byte_tokenizer, "ab", "")


def test_training_learns_the_scored_tokens_and_one_end(byte_tokenizer: Any) -> None:
    scored = encode_scored(byte_tokenizer, "ab:\n", "cd")
    plain = encode_training(byte_tokenizer, "ab:\n", "cd")
    assert plain == ([*scored.ids, EOS], scored.n_context)
    assert encode_training(byte_tokenizer, "ab:\n", "cd", "</s>") == plain
    assert encode_training(byte_tokenizer, "ab:\n", "cd", "!").ids == [*scored.ids, *ids_of("!"), EOS]


@given(st.text(alphabet="ab \n<s>/é", min_size=1), st.text(alphabet="ab \né", min_size=1))
def test_ids_are_those_of_lm_evaluation_harness(prompt: str, reference: str) -> None:
    tokenizer = make_tokenizer(merged=["  a", "\n\n", "ab"])
    context, continuation = as_lm_evaluation_harness(tokenizer, prompt, reference)
    ids, n_context = encode_scored(tokenizer, prompt, reference)
    assert ids == context + continuation
    assert n_context == min(len(context), len(ids) - 1)


@pytest.mark.shared
@pytest.mark.parametrize("name", shipped())
def test_a_real_tokenizer_agrees_with_every_template(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(shared("models/medllama-7m"), local_files_only=True)
    one = dialogue("What are the treatments for flu?", "Rest, and drink enough.\nSee a doctor if it lasts.")
    text = load_template(name).render_training(one)
    prompt = encode_prompt(tokenizer, text.prompt)
    ids, n_context = encode_scored(tokenizer, text.prompt, text.completion)
    assert ids[0] == prompt[0] == tokenizer.bos_token_id
    assert ids[1] != tokenizer.bos_token_id
    assert (ids[: len(prompt)] == prompt) is (name != "know-medical-verbatim")
    assert tokenizer.decode(ids[n_context:]).strip() == text.completion
    context, continuation = as_lm_evaluation_harness(tokenizer, text.prompt, text.completion)
    assert (ids[:n_context], ids[n_context:]) == (context, continuation)


def test_a_stop_string_that_the_tokenizer_lacks_the_characters_for_can_never_be_written() -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(models.WordLevel({"[UNK]": 0, "rest": 1, "END": 2}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer: Any = PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]")
    assert can_write(tokenizer, "END")
    assert not can_write(tokenizer, "<|im_end|>")
    assert can_write(make_tokenizer(), "<|im_end|>")
