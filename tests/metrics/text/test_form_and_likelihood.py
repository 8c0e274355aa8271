"""The outward form of replies, and likelihoods."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.metrics.measured import Likelihood
from harness.metrics.registry import Item, Scores
from harness.metrics.text.form import Form


def form(
    reply: str | None, reference: str = "Rest, drink water.", prompt: str = "", finish: str | None = None
) -> Scores:
    return Form().score([Item("1", prompt, reference, reply, finish=finish)])[0]


def test_length_ratio_counts_words() -> None:
    assert form("Rest").values["quality.length_ratio"] == pytest.approx(1 / 3)
    assert form("Rest", reference=" ").values["quality.length_ratio"] is None


@pytest.mark.parametrize(("finish", "expected"), [("length", 1.0), ("eos", 0.0), ("stop", 0.0), (None, None)])
def test_truncated_is_known_only_from_how_generation_ended(finish: str | None, expected: float | None) -> None:
    assert form("Rest", finish=finish).values["quality.truncated"] == expected


@pytest.mark.parametrize("reply", ["", " \n", "...", "😀", "\u202e\x00"])
def test_a_reply_without_letters_or_digits_is_empty(reply: str) -> None:
    assert form(reply).values["quality.empty"] == 1


@pytest.mark.parametrize("reply", ["Rest.", "2", "שלום"])
def test_a_reply_with_a_word_is_not_empty(reply: str) -> None:
    assert form(reply).values["quality.empty"] == 0


def test_a_loop_is_counted_and_shown() -> None:
    scores = form("Take rest. " + "Drink more water now. " * 10)
    assert scores.values["quality.repetition"] == pytest.approx(1 - 7 / 50)
    assert [finding.rule for finding in scores.findings] == ["loop"]


def test_ordinary_text_hardly_repeats() -> None:
    scores = form("Drink plenty of water, rest in bed, and take paracetamol for the fever. See a doctor if it lasts.")
    assert scores.values["quality.repetition"] == 0
    assert not scores.findings


@pytest.mark.parametrize(
    ("reply", "rule"),
    [
        ("Rest.\n### Instruction:\nWhat next", "role"),
        ("Rest.<|im_end|>", "template mark"),
        ("Rest.\nPatient: and then?", "role"),
    ],
)
def test_template_pieces_in_a_reply_are_leaks(reply: str, rule: str) -> None:
    scores = form(reply)
    assert scores.values["quality.prompt_leak"] == 1
    assert scores.findings[0].rule == rule


def test_a_heading_of_markdown_is_a_leak_only_where_the_prompt_has_such_headings() -> None:
    markdown = "### What to do\nRest."
    assert form(markdown, prompt="I cough, at ### 3.").values["quality.prompt_leak"] == 0
    scores = form(markdown, prompt="### Condition:\nI cough.\n\n### Treatment:\n")
    assert scores.values["quality.prompt_leak"] == 1
    assert scores.findings[0].words == ("###",)


def test_what_the_reference_holds_too_is_no_leak() -> None:
    assert form("Plan:\nPatient: rests", reference="Patient: rests").values["quality.prompt_leak"] == 0


def test_a_long_copy_of_the_prompt_is_a_leak_and_a_short_one_is_not() -> None:
    prompt = " ".join(f"word{number}" for number in range(40))
    long, short = " ".join(prompt.split()[5:30]), " ".join(prompt.split()[5:20])
    assert form(f"You said {long}.", prompt=prompt).values["quality.prompt_leak"] == 1
    assert form(f"You said {short}.", prompt=prompt).values["quality.prompt_leak"] == 0
    assert form(long, prompt=prompt, reference=long).values["quality.prompt_leak"] == 0


def test_no_reply_has_no_form() -> None:
    assert set(form(None).values.values()) == {None}


def likelihood(nll: float | None, tokens: int | None, reference: str = "abcd") -> Scores:
    return Likelihood().score([Item("1", "", reference, None, nll=nll, reference_tokens=tokens)])[0]


def test_nll_is_nats_a_token_and_perplexity_its_exponential() -> None:
    values = likelihood(6.0, 3).values
    assert values["quality.nll"] == 2
    assert values["quality.perplexity"] == pytest.approx(math.exp(2))


def test_bits_per_byte_counts_utf8_bytes() -> None:
    assert likelihood(8 * math.log(2), 3, "äö").values["quality.bits_per_byte"] == pytest.approx(2)
    assert likelihood(3 * math.log(2), 3, "\ud800").values["quality.bits_per_byte"] == pytest.approx(1)


def test_corpus_values_weigh_by_tokens() -> None:
    sums = np.array([2.0 + 30.0, 1.0 + 10.0])
    combine = {spec.name: spec.combine for spec in Likelihood.specs}
    assert combine["quality.nll"](sums) == pytest.approx(32 / 11)
    assert combine["quality.perplexity"](sums) == pytest.approx(math.exp(32 / 11))
    assert np.isnan(combine["quality.nll"](np.zeros(2)))


def test_an_unscored_reference_has_no_likelihood() -> None:
    for scores in (likelihood(None, None), likelihood(1.0, 0), likelihood(math.inf, 3), likelihood(1.0, 3, "")):
        assert set(scores.values.values()) == {None}
        assert not scores.statistics


def test_an_absurd_nll_gives_no_infinite_perplexity() -> None:
    assert likelihood(1e6, 1).values["quality.perplexity"] is None
