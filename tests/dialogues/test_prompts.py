"""Templates: their bytes, their sandbox, and one function for training and measuring."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.dialogues.prompts import Template, load_template, shipped
from harness.dialogues.turns import Turn
from harness.errors import InputError
from tests.dialogues.conftest import dialogue

INDENT = " " * 12


def written(folder: Path, source: str) -> Path:
    path = folder / "mine.jinja"
    path.write_text(source)
    return path


def test_know_medical_is_this_text() -> None:
    assert load_template("know-medical").render(dialogue("I cough.\nFor a week.")) == (
        "### Instruction:\n"
        "For describe the treatment options the following conversation.\n"
        "\n"
        "### Explaining medical conditions:\n"
        "I cough.\nFor a week.\n"
        "\n"
        "### Describe the treatment options:\n"
    )


def test_verbatim_indents_the_template_s_lines_and_no_others() -> None:
    text = load_template("know-medical-verbatim").render_training(
        dialogue("\n I cough.\nFor a week. ", " Drink tea.\n  Rest.\n")
    )
    assert text.prompt + text.completion == (
        "### Instruction:\n"
        f"{INDENT}For describe the treatment options the following conversation.\n"
        "\n"
        f"{INDENT}### Explaining medical conditions:\n"
        f"{INDENT}I cough.\nFor a week.\n"
        "\n"
        f"{INDENT}### Describe the treatment options:\n"
        f"{INDENT}Drink tea.\n  Rest."
    )
    assert text.completion == "Drink tea.\n  Rest."


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_no_text_changes_a_template_and_no_template_changes_a_text(condition: str) -> None:
    for name in shipped():
        before, after = load_template(name).render(dialogue("CONDITION")).split("CONDITION")
        assert load_template(name).render(dialogue(condition)) == before + condition.strip() + after


@pytest.mark.parametrize("hostile", ["{{ 7 * 7 }}", "{% raw %}", "{# gone #}", "<b>&amp;", "{{ condition }}"])
def test_what_a_dialogue_says_is_never_a_template(hostile: str) -> None:
    assert f"\n{hostile}\n" in load_template("know-medical").render(dialogue(hostile))


@pytest.mark.parametrize("name", shipped())
def test_training_and_measuring_render_the_same_prompt(name: str) -> None:
    template = load_template(name)
    one = dialogue("I cough.", "Drink tea.")
    assert template.render_training(one).prompt == template.render(one)


def test_the_digest_is_of_the_source() -> None:
    template = load_template("know-medical")
    assert template.digest == hashlib.sha256(template.source.encode()).hexdigest()
    assert len({load_template(name).digest for name in [*shipped(), "chat"]}) == len(shipped()) + 1


def test_the_digest_does_not_depend_on_line_ends(tmp_path: Path) -> None:
    unix = load_template(written(tmp_path, "Patient:\n{{ condition }}\n"))
    (tmp_path / "mine.jinja").write_bytes(b"\xef\xbb\xbfPatient:\r\n{{ condition }}\r\n")
    assert load_template(tmp_path / "mine.jinja").digest == unix.digest


def test_one_s_own_template_sees_condition_turns_and_columns(tmp_path: Path) -> None:
    source = (
        "{% for turn in turns %}{{ turn.role }}: {{ turn.content }}\n{% endfor %}{{ columns.focus }}|{{ condition }}\n"
    )
    template = load_template(written(tmp_path, source))
    one = dialogue("p", turns=(Turn("patient", "p"),), columns={"focus": "flu"})
    assert template.render(one) == "patient: p\nflu|p\n"


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("a\n{{ condition", "line 2: not a valid Jinja template"),
        (
            "{{ conditon }}",
            "uses the unknown variable 'conditon'; it may use condition, turns, columns. Did you mean",
        ),
        ("Tell me about it.", "does not use the dialogue; it needs {{ condition }}"),
        ("{% set a = 1 %}", "does not use the dialogue"),
    ],
)
def test_a_template_that_cannot_work_is_refused_when_loaded(source: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_template(written(tmp_path, source))
    assert said in str(caught.value)
    assert str(tmp_path / "mine.jinja") in str(caught.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{{ condition.__class__.__mro__ }}", "unsafe"),
        ("{{ columns.focus }}", "has no attribute 'focus'"),
        ("{{ condition }}{% for _ in range(10 ** 9) %}x{% endfor %}", "repeats something"),
        ("{{ columns.update({'a': 1}) }}", "'update' of 'dict' object is unsafe"),
        ("{{ condition / 2 }}", "unsupported operand"),
        ("{% include 'other' %}{{ condition }}", "no loader"),
        ("{{ '' if condition else 'x' }}", "it renders an empty prompt"),
    ],
)
def test_a_template_that_fails_or_breaks_out_names_itself_and_the_dialogue(
    source: str, said: str, tmp_path: Path
) -> None:
    template = load_template(written(tmp_path, source))
    with pytest.raises(InputError) as caught:
        template.render(dialogue("p", id="d-7"))
    assert said in str(caught.value)
    assert "d-7" in str(caught.value)


def test_an_unknown_name_is_answered_with_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean 'know-medical'"):
        load_template("know-medcal")
    with pytest.raises(InputError, match="Cannot read the prompt template"):
        load_template(tmp_path / "absent.jinja")


def test_training_needs_a_reference() -> None:
    with pytest.raises(InputError, match="no reference to train on"):
        load_template("know-medical").render_training(dialogue("p", None))


class TestChat:
    """The tokenizer's own template."""

    TEMPLATE = (
        "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )

    @pytest.fixture
    def tokenizer(self, byte_tokenizer: Any) -> Any:
        byte_tokenizer.chat_template = self.TEMPLATE
        return byte_tokenizer

    def test_it_puts_the_turns_to_the_model(self, tokenizer: Any) -> None:
        turns = (
            Turn("system", "Be kind."),
            Turn("patient", "I cough."),
            Turn("doctor", "Since when?"),
            Turn("patient", "A week."),
        )
        assert load_template("chat").render(dialogue("transcript", turns=turns), tokenizer) == (
            "<s><|system|>Be kind.</s>\n<|user|>I cough.</s>\n<|assistant|>Since when?</s>\n"
            "<|user|>A week.</s>\n<|assistant|>"
        )

    def test_the_text_to_train_on_ends_as_the_template_ends_a_reply(self, tokenizer: Any) -> None:
        text = load_template("chat").render_training(dialogue("I cough.", "Drink tea."), tokenizer)
        assert text.prompt == load_template("chat").render(dialogue("I cough."), tokenizer)
        assert (text.completion, text.ending) == ("Drink tea.", "</s>")

    def test_another_chat_template_has_another_digest(self, tokenizer: Any) -> None:
        before = load_template("chat").digest_with(tokenizer)
        tokenizer.chat_template += "\n"
        assert load_template("chat").digest_with(tokenizer) != before

    def test_a_tokenizer_without_one_is_an_error(self, byte_tokenizer: Any) -> None:
        with pytest.raises(InputError, match="needs a tokenizer with a chat template, but this one has none"):
            Template("chat", "").render(dialogue(), byte_tokenizer)
        with pytest.raises(InputError, match="cannot be rendered without a tokenizer"):
            load_template("chat").render(dialogue())

    def test_a_template_s_own_complaint_is_passed_on(self, tokenizer: Any) -> None:
        tokenizer.chat_template = "{{ raise_exception('roles must alternate') }}"
        with pytest.raises(InputError, match=r"dialogue 'd-7' \(roles must alternate\)"):
            load_template("chat").render(dialogue(id="d-7"), tokenizer)
