"""Scores of replies in any script: as reference tools have them, and undefined, never 0, where one cannot read."""

from __future__ import annotations

import pytest
from sacrebleu.metrics.bleu import BLEU

from harness.metrics.loading import load_metrics
from harness.metrics.registry import Item, MetricOptions
from harness.metrics.text.bleu import Bleu, corpus_bleu, sentence_bleu
from harness.metrics.text.form import length_ratio, repeated_share
from harness.metrics.text.rouge import Rouge
from harness.metrics.text.words import for_texts, unicode_words

ZH = "请多喝水并休息两天，如果发烧超过三天请就医。"
AR = "اشرب الكثير من الماء واسترح يومين"
HI = "खूब पानी पिएं और दो दिन आराम करें"
JA = "水をたくさん飲んで、二日間休んでください。"
TH = "ดื่มน้ำมากๆ และพักผ่อนสองวัน"
RU = "Пейте больше воды и отдыхайте два дня."
KO = "물을 많이 마시고 이틀 동안 쉬세요."


@pytest.mark.parametrize("text", [ZH, AR, HI, JA, TH, RU, KO])
def test_a_reply_equal_to_its_reference_overlaps_wholly_in_every_script(text: str) -> None:
    metrics = load_metrics(["rouge", "bleu", "chrf", "length_ratio"], for_texts(MetricOptions(), [text]))
    values = metrics.score([Item("1", "", text, text)])[0].values
    expected = {"quality.rouge_1": 1, "quality.rouge_2": 1, "quality.rouge_l": 1, "quality.rouge_lsum": 1}
    assert values == pytest.approx({**expected, "quality.bleu": 100, "quality.chrf": 100, "quality.length_ratio": 1})


def test_latin_words_do_not_read_other_scripts_and_say_so() -> None:
    found = Rouge(words="latin").score([Item("1", "", ZH, ZH)])[0]
    assert found.values["quality.rouge_l"] is None
    assert found.undefined["quality.rouge_l"].startswith("the reference is not in Latin letters")


def test_bleu_13a_is_undefined_where_words_are_not_separated() -> None:
    assert Bleu("13a").score([Item("1", "", ZH, ZH)])[0].values == {"quality.bleu": None}


@pytest.mark.parametrize("tokenizer", ["zh", "char", "intl"])
def test_bleu_with_another_tokenizer_equals_sacrebleu(tokenizer: str) -> None:
    reply = ZH.replace("两天", "一周") + "多吃水果 vitamin C。"
    theirs = BLEU(tokenize=tokenizer, effective_order=True)
    mine = Bleu(tokenizer)
    counts = mine.counts(ZH, reply)
    assert sentence_bleu(counts) == pytest.approx(theirs.sentence_score(reply, [ZH]).score)
    assert f"tok:{tokenizer}" in mine.specs[0].signature


def test_corpus_bleu_in_chinese_equals_sacrebleu() -> None:
    import numpy as np

    pairs = [(ZH, ZH.replace("两", "三")), ("每天服用一次，饭后服用。", "每天服用两次。"), (JA, ZH)]
    sums = np.sum([Bleu("zh").counts(reference, reply) for reference, reply in pairs], axis=0).astype(float)
    theirs = BLEU(tokenize="zh").corpus_score([reply for _, reply in pairs], [[reference for reference, _ in pairs]])
    assert float(corpus_bleu(sums)) == pytest.approx(theirs.score)


@pytest.mark.parametrize(
    ("texts", "words", "tokenizer"),
    [
        (["Drink water.", "Rest."], "latin", "13a"),
        ([ZH], "unicode", "zh"),
        ([AR, HI], "unicode", "13a"),
        ([RU], "unicode", "13a"),
        ([TH], "unicode", "char"),
        ([ZH, "Take 400 mg ibuprofen.", ZH], "unicode", "zh"),
        ([], "latin", "13a"),
    ],
)
def test_the_script_of_most_references_decides(texts: list[str], words: str, tokenizer: str) -> None:
    chosen = for_texts(MetricOptions(), texts)
    assert (chosen.words, chosen.bleu_tokenizer) == (words, tokenizer)


def test_what_was_set_is_kept() -> None:
    chosen = for_texts(MetricOptions(words="latin", bleu_tokenizer="char"), [ZH])
    assert (chosen.words, chosen.bleu_tokenizer) == ("latin", "char")


def test_vowel_signs_belong_to_their_word() -> None:
    assert unicode_words(HI) == HI.split()


def test_english_words_are_the_same_either_way() -> None:
    text = "Take 400 mg of Ibuprofen, twice a day."
    one, other = Rouge(words="latin").f1(text, text[:20]), Rouge(words="unicode").f1(text, text[:20])
    assert one == other


def test_length_is_counted_in_characters_without_spaces() -> None:
    assert length_ratio(ZH, ZH[: len(ZH) // 2]) == pytest.approx(0.5, abs=0.03)


def test_a_loop_without_spaces_is_a_loop() -> None:
    assert repeated_share("多喝水多休息" * 8)[0] > 0.8
