"""Tokenizers with chat templates that have one peculiarity each, as those of well-known models have it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tests.dialogues.conftest import make_tokenizer

# A space before the reply and no system turns: Llama 2, Mistral.
SPACED = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[ASK] {{ m.content }} [/ASK]"
    "{% elif m.role == 'assistant' %}{% if loop.first %}{{ raise_exception('the user speaks first') }}{% endif %}"
    " {{ m.content }} {{ eos_token }}{% else %}{{ raise_exception('no system role') }}{% endif %}{% endfor %}"
)
# Turns between marks, ended by a token that need not be the tokenizer's end: ChatML.
MARKED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# The last reply has a reasoning block, an empty one unless it brings its own; and one switched off is written: Qwen 3.
REASONING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}{% set parts = m.content.split('</think>') %}"
    "<think>\n{{ parts[0].replace('<think>', '').strip() if parts | length > 1 else '' }}\n</think>\n\n"
    "{{ parts[-1].strip() }}{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
# The prompt opens the reasoning block: QwQ, DeepSeek R1.
OPENED = MARKED.replace("<|im_start|>assistant\n", "<|im_start|>assistant\n<think>\n")
# Two tokens at the start that the tokenizer also adds, and no end of a turn: GLM.
PREFIXED = (
    "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# Asks for the date by a function, by a variable that is given, and by one that need not be: Llama 3, gpt-oss.
CLOCK = "{{ strftime_now('%d %B %Y') }} {% for m in messages %}{{ m.content }}{% endfor %}"
DATED = "Today is {{ date_string }}. {% for m in messages %}{{ m.content }}{% endfor %}"
EITHER = (
    "{% if not date_string is defined %}{% set date_string = strftime_now('%d %b %Y') %}{% endif %}"
    "It is {{ date_string }}. {% for m in messages %}{{ m.content }}{% endfor %}"
)

MARKS = ["<|im_start|>", "<|im_end|>", "[gMASK]", "<sop>", "<|user|>", "<|assistant|>"]


def with_template(
    template: str, *, bos: bool = True, eos: str | None = None, adds: str = "", merged: Iterable[str] = ()
) -> Any:
    """Return a byte-level tokenizer with a chat template; it ``adds`` these special tokens to any text.

    Texts that are ``merged`` are tokens of their own.
    """
    from tokenizers import processors

    tokenizer = make_tokenizer(merged, bos=bos)
    tokenizer.add_special_tokens({"additional_special_tokens": MARKS})
    if eos is not None:
        tokenizer.eos_token = eos
    if adds:
        names = adds.split()
        ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in names]
        post = processors.TemplateProcessing(single=f"{adds} $A", special_tokens=ids)
        tokenizer.backend_tokenizer.post_processor = post
    tokenizer.chat_template = template
    return tokenizer
