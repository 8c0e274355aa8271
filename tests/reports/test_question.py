"""The template's words around a question, found by what all prompts of a run share."""

from __future__ import annotations

import pytest

from reports.question import frame

EAR, EYE = "My ear hurts. What helps?", "My eye hurts. What helps?"


@pytest.mark.parametrize(
    ("opening", "closing"),
    [
        ("### Instruction:\nReply.\n\n### Dialogue:\n", "\n\n### Reply:\n"),
        ("<s>[INST] ", " [/INST]"),
        ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
        ("Patient: ", "\nDoctor:"),
        ("", ""),
    ],
)
def test_the_question_is_what_stands_between_what_all_prompts_share(opening: str, closing: str) -> None:
    asked = ["My ear hurts", "Is this the flu?"]
    around = frame([opening + question + closing for question in asked])
    assert [around.question(opening + question + closing) for question in asked] == asked


def test_a_sentence_that_ends_every_question_is_part_of_it() -> None:
    prompts = [f"Patient:\n{question}\nDoctor:\n" for question in (EAR, EYE)]
    assert frame(prompts).question(prompts[0]) == EAR


def test_words_that_questions_share_by_chance_are_no_template() -> None:
    around = frame(["What helps against gout", "What helps against gallstones"])
    assert around.question("What helps against gout") == "What helps against gout"


@pytest.mark.parametrize("prompts", [[], ["Reply.\n\nMy ear hurts."], ["Reply.\nMy ear hurts."] * 3])
def test_of_a_single_prompt_nothing_is_known_to_be_the_templates(prompts: list[str]) -> None:
    assert frame(prompts).question("Reply.\nMy ear hurts.") == "Reply.\nMy ear hurts."


def test_a_prompt_that_is_nothing_but_the_template_is_shown_whole() -> None:
    prompts = ["Patient:\n\nDoctor:\n", "Patient:\nMy ear hurts.\nDoctor:\n"]
    assert frame(prompts).question(prompts[1]) == "My ear hurts."
    assert frame(prompts).question(prompts[0]) == prompts[0]
