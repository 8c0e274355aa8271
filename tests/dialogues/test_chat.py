"""Chat templates: prompt and reply joined as the template joins them, its arguments, and a day that never changes."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest

from harness.dialogues.chat import ChatTemplate, RefusedDialogueError
from harness.dialogues.prompts import load_template
from harness.dialogues.tokens import encode_prompt, encode_scored, encode_training
from harness.dialogues.turns import Turn
from harness.errors import InputError
from tests.dialogues.chat_templates import (
    CLOCK,
    DATED,
    EITHER,
    MARKED,
    OPENED,
    PREFIXED,
    REASONING,
    SPACED,
    with_template,
)
from tests.dialogues.conftest import dialogue

ASKED = dialogue("I cough.", "Drink tea.")
QUESTION = [{"role": "user", "content": "I cough."}]
WHOLE = [*QUESTION, {"role": "assistant", "content": "Drink tea."}]


def scored(tokenizer: Any, **arguments: Any) -> tuple[list[int], int]:
    joined = load_template("chat", arguments).render_joined(ASKED, tokenizer)
    assert joined is not None
    return encode_scored(tokenizer, joined.before, joined.reply, special_tokens=False)


def learned(tokenizer: Any, **arguments: Any) -> tuple[list[int], str]:
    """Return the ids of a training example, and the text of those that are learned."""
    text = load_template("chat", arguments).render_training(ASKED, tokenizer)
    ids, start = encode_training(
        tokenizer, text.prompt, text.completion, text.ending, special_tokens=text.special_tokens
    )
    return ids, tokenizer.decode(ids[start:])


def test_a_space_that_the_template_puts_before_the_reply_is_scored_and_learned() -> None:
    tokenizer = with_template(SPACED)
    whole = tokenizer.apply_chat_template(WHOLE, return_dict=False)
    prompt = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    ids, start = scored(tokenizer)
    assert (ids, start) == (whole[: len(ids)], len(prompt))
    assert tokenizer.decode(ids[start:]) == " Drink tea."
    assert learned(tokenizer) == (whole, " Drink tea. </s>")
    assert load_template("chat").render_training(ASKED, tokenizer).unmatched == ""


def test_a_space_that_is_part_of_the_reply_s_first_token_is_scored_with_it() -> None:
    tokenizer = with_template(SPACED, merged=[" Drink"])
    ids, start = scored(tokenizer)
    assert tokenizer.convert_ids_to_tokens(ids[start:])[:2] == [" Drink", "Ġ"]


def test_an_empty_reasoning_block_is_learned_and_is_the_context_of_what_is_scored() -> None:
    tokenizer = with_template(REASONING, bos=False, eos="<|im_end|>")
    whole = tokenizer.apply_chat_template(WHOLE, return_dict=False)
    ids, start = scored(tokenizer)
    assert ids == whole[: len(ids)]
    assert tokenizer.decode(ids[start:]) == "\n\nDrink tea."
    assert learned(tokenizer) == (whole[:-1], "\n<think>\n\n</think>\n\nDrink tea.<|im_end|>")


def test_a_reasoning_block_that_the_prompt_writes_is_not_learned() -> None:
    tokenizer = with_template(REASONING, bos=False, eos="<|im_end|>")
    assert (
        load_template("chat", {"enable_thinking": False}).render(ASKED, tokenizer).endswith("<think>\n\n</think>\n\n")
    )
    assert scored(tokenizer, enable_thinking=False) == scored(tokenizer)
    assert learned(tokenizer, enable_thinking=False)[1] == "\n\nDrink tea.<|im_end|>"


def test_a_reply_with_reasoning_is_joined_as_the_template_writes_it() -> None:
    tokenizer = with_template(REASONING, bos=False)
    joined = ChatTemplate(tokenizer).join(ASKED, "<think>dry air</think>Drink tea.")
    assert joined.before.endswith("assistant\n<think>\n")
    assert (joined.reply, joined.after) == ("dry air\n</think>\n\nDrink tea.", "<|im_end|>\n")


def test_where_the_prompt_opens_a_block_the_reply_is_learned_as_the_conversation_has_it() -> None:
    tokenizer = with_template(OPENED, bos=False, eos="<|im_end|>")
    assert load_template("chat").render(ASKED, tokenizer).endswith("assistant\n<think>\n")
    whole = tokenizer.apply_chat_template(WHOLE, return_dict=False)
    assert learned(tokenizer) == (whole[:-1], "\nDrink tea.<|im_end|>")
    assert load_template("chat").render_training(ASKED, tokenizer).unmatched == "<think>\n"


def test_the_end_of_a_turn_is_learned_where_it_is_not_the_tokenizer_s_end() -> None:
    assert learned(with_template(MARKED))[1] == "\nDrink tea.<|im_end|>\n</s>"
    assert learned(with_template(MARKED, eos="<|im_end|>"))[1] == "\nDrink tea.<|im_end|>"


@pytest.mark.parametrize(
    ("template", "adds"), [(PREFIXED, "[gMASK] <sop>"), (MARKED, "<|im_start|>"), (MARKED, "<s>"), (SPACED, "<s>")]
)
def test_ids_are_those_of_transformers_whatever_the_tokenizer_adds_to_other_texts(template: str, adds: str) -> None:
    tokenizer = with_template(template, bos=adds == "<s>", adds=adds)
    prompt = load_template("chat").render(ASKED, tokenizer)
    expected = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, return_dict=False)
    assert encode_prompt(tokenizer, prompt, special_tokens=False) == expected
    whole = tokenizer.apply_chat_template(WHOLE, return_dict=False)
    ids, _ = scored(tokenizer)
    assert ids == whole[: len(ids)]
    assert learned(tokenizer)[0][: len(whole)] == whole


def test_the_reply_is_found_where_other_text_is_the_same() -> None:
    joined = ChatTemplate(with_template(SPACED)).join(dialogue("s"), "s")
    assert joined == ("<s>[ASK] s [/ASK] ", "s", " </s>")


def test_a_template_that_leaves_the_reply_out_is_refused() -> None:
    with pytest.raises(RefusedDialogueError, match="leaves the doctor's last reply out"):
        ChatTemplate(with_template("{{ messages[0].content }}")).join(ASKED, "Drink tea.")


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (CLOCK, "01 January 2026 I cough."),
        (DATED, "Today is 01 Jan 2026. I cough."),
        (EITHER, "It is 01 Jan 2026. I cough."),
    ],
)
def test_a_template_that_asks_for_today_gets_the_same_day_every_day(template: str, shown: str) -> None:
    tokenizer = with_template(template)
    assert load_template("chat").render(ASKED, tokenizer) == shown
    assert load_template("chat").date_with(tokenizer) == "01 Jan 2026"


@pytest.mark.parametrize("start", ["", "\n", "\n  {% if true %}\n x{% endif %}\n", "  {{- 'x' }}\n\n", "{#- c #} \n"])
def test_nothing_but_the_date_differs_from_what_transformers_renders(start: str) -> None:
    day = datetime.now()
    tokenizer = with_template(start + "{{ strftime_now('%j') }} " + SPACED)
    shown = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    expected = shown.replace(day.strftime("%j "), "001 ")
    assert load_template("chat").render(ASKED, tokenizer) == expected


@pytest.mark.parametrize("template", [CLOCK, DATED, EITHER])
def test_a_stated_date_is_shown_however_the_template_asks(template: str) -> None:
    chosen, tokenizer = load_template("chat", {"date_string": '5 "May" 😀'}), with_template(template)
    assert '5 "May" 😀' in chosen.render(ASKED, tokenizer)
    assert chosen.date_with(tokenizer) == '5 "May" 😀'


def test_a_template_that_asks_for_no_date_gets_none() -> None:
    own = "{% if not date_string is defined %}{% set date_string = '26 Jul' %}{% endif %}{{ date_string }}" + MARKED
    assert load_template("chat").date_with(with_template(MARKED)) is None
    assert load_template("chat").date_with(with_template(own)) is None
    assert load_template("chat").render(ASKED, with_template(own)).startswith("26 Jul<|im_start|>")


@pytest.mark.parametrize("template", [SPACED, MARKED, REASONING, OPENED, PREFIXED])
def test_prompts_are_those_of_transformers(template: str) -> None:
    tokenizer = with_template("\n  {# a comment #}\n" + template)
    expected = tokenizer.apply_chat_template(QUESTION, add_generation_prompt=True, tokenize=False)
    assert load_template("chat").render(ASKED, tokenizer) == expected


def test_an_argument_that_the_template_does_not_take_is_refused() -> None:
    with pytest.raises(InputError, match=r"takes no 'enable_thinkin'\. Did you mean 'enable_thinking'"):
        load_template("chat", {"enable_thinkin": False}).render(ASKED, with_template(REASONING))
    with pytest.raises(InputError, match="takes no 'messages'"):
        load_template("chat", {"messages": []}).render(ASKED, with_template(REASONING))
    with pytest.raises(InputError, match="the prompt is 'know-medical' and not the tokenizer's chat template"):
        load_template("know-medical", {"enable_thinking": False})


def test_arguments_change_the_digest() -> None:
    tokenizer = with_template(REASONING)
    plain = load_template("chat").digest_with(tokenizer)
    assert load_template("chat", {}).digest_with(tokenizer) == plain
    assert load_template("chat", {"enable_thinking": False}).digest_with(tokenizer) != plain


@pytest.mark.parametrize(
    ("roles", "said"),
    [
        (("system", "patient"), r"dialogue 'd-7' \(no system role\). It has a system turn. .*on_invalid to 'skip'"),
        (("doctor", "patient"), r"dialogue 'd-7' \(the user speaks first\). It begins with the doctor. "),
    ],
)
def test_a_refused_dialogue_is_named_with_what_is_special_about_it_and_the_remedy(
    roles: tuple[Any, ...], said: str
) -> None:
    turns = tuple(Turn(role, "Hello.") for role in roles)
    with pytest.raises(RefusedDialogueError, match=said):
        load_template("chat").render(dialogue(id="d-7", turns=turns), with_template(SPACED))
