"""Templates that would never end, or fill the memory, are refused within seconds; others render as before."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.dialogues.prompts import load_template
from harness.errors import InputError
from tests.dialogues.chat_templates import MARKED, with_template
from tests.dialogues.conftest import dialogue

ASKED = dialogue("I cough.", "Drink tea.")
LOOPS = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}"
ENDLESS = {
    "nested loops": LOOPS + "x" + "{% endfor %}" * 3,
    "silent loops": LOOPS + "{% set x = a %}" + "{% endfor %}" * 3,
    "a loop over a generator": "{% for a in range(99999) %}{% for b in range(99999)|map('string') %}{% endfor %}"
    "{% endfor %}",
    "calls that branch": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
    "calls without end": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "multiplied text": "{{ 'a' * 10000000000 }}",
    "a power": "{{ 9 ** 999999999 }}",
    "a power of variables": "{% set n = 999999999 %}{{ n ** n }}",
    "doubled text": "{% set x = 'ab' %}" + "{% set x = x ~ x %}" * 40 + "{{ x | length }}",
    "added text": "{% set x = 'ab' %}" + "{% set x = x + x %}" * 40 + "{{ x | length }}",
    "doubled blocks": "{% set x %}ab{% endset %}" + "{% set x %}{{ x }}{{ x }}{% endset %}" * 40 + "{{ x | length }}",
    "a wide field": "{{ '%10000000000d' % 1 }}",
    "a wide filter": "{{ 'a' | center(10000000000) }}",
    "a wide method": "{{ 'a'.ljust(10000000000) }}",
    "much text": "{% for a in range(99999) %}{{ 'a' * 1000 }}{% endfor %}",
    "an arithmetic error": "{{ 1 / 0 }}",
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_chat_template_that_would_not_end_is_refused(kind: str) -> None:
    tokenizer = with_template(ENDLESS[kind])
    with pytest.raises(InputError, match=r"chat template cannot be rendered"):
        load_template("chat").render(ASKED, tokenizer)


@pytest.mark.parametrize("kind", ENDLESS)
def test_a_prompt_template_that_would_not_end_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "endless.jinja"
    path.write_text("{{ condition }}" + ENDLESS[kind])
    with pytest.raises(InputError, match=r"endless\.jinja"):
        load_template(path).render(ASKED)


def test_a_number_of_thousands_of_digits_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "long.jinja"
    path.write_text("{{ condition }}{{ " + "9" * 5000 + " }}")
    with pytest.raises(InputError, match="not a valid Jinja template"):
        load_template(path)


def test_a_template_renders_what_transformers_renders() -> None:
    source = (
        "{% for m in messages %}{% if not loop.last %}{{ loop.length }}{% continue %}{% endif %}\n"
        "  {% generation %}{{ m | tojson }}{% endgeneration %}\n{% endfor %}{{ bos_token ~ eos_token }}"
        "{% set ns = namespace(n=0) %}{% for c in 'abc' if c != 'b' %}{% set ns.n = ns.n + 2 * 3 %}{% endfor %}"
        "{{ ns.n }}"
        "{{ 'a,b'.split(',') | join('-') | upper }}"
    )
    for template in (source, MARKED):
        tokenizer = with_template(template)
        messages = [{"role": "user", "content": "I cough."}]
        expected = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert load_template("chat").render(ASKED, tokenizer) == expected
