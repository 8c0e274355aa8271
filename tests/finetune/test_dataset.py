"""What is learned of a dialogue: the reply and its end, in the tokens that scoring scores, and never half of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

from finetune.dataset import encode_dialogues, to_columns
from harness.dialogues.model import Dialogue
from harness.dialogues.prompts import load_template
from harness.dialogues.tokens import encode_scored
from harness.dialogues.turns import Turn
from harness.errors import InputError
from tests.dialogues.chat_templates import SPACED, with_template


@pytest.fixture(scope="module")
def tokenizer(base: Path) -> Any:
    return AutoTokenizer.from_pretrained(str(base))


def dialogue(reply: str = "Drink water and rest.", name: str = "a") -> Dialogue:
    return Dialogue(id=name, prompt="cough and fever", reference=reply)


@pytest.mark.parametrize("template", ["know-medical", "know-medical-verbatim"])
def test_learned_are_the_scored_tokens_and_the_end(tokenizer: Any, template: str) -> None:
    loaded = load_template(template)
    encoded = encode_dialogues([dialogue()], loaded, tokenizer, 256).examples[0]
    ids, n_context = encode_scored(tokenizer, loaded.render(dialogue()), "Drink water and rest.")
    learned = [token for token, bit in zip(encoded.input_ids, encoded.learned, strict=True) if bit]
    assert learned == [*ids[n_context:], tokenizer.eos_token_id]
    assert list(encoded.input_ids) == [*ids, tokenizer.eos_token_id]
    assert encoded.input_ids.count(tokenizer.bos_token_id) == 1


def test_labels_of_a_padded_batch_end_with_eos_although_it_is_the_padding(tokenizer: Any) -> None:
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

    assert tokenizer.pad_token_id == tokenizer.eos_token_id
    short, long = dialogue("Rest.", "short"), dialogue("Drink water and rest, call if breath gets worse.", "long")
    table = to_columns(encode_dialogues([short, long], load_template("know-medical"), tokenizer, 256))
    batch = DataCollatorForLanguageModeling(pad_token_id=tokenizer.pad_token_id)([dict(row) for row in table])
    for row, reply in zip(
        batch["labels"].tolist(), ("Rest.", "Drink water and rest, call if breath gets worse."), strict=True
    ):
        learned = [label for label in row if label != -100]
        assert learned[-1] == tokenizer.eos_token_id
        assert learned.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(learned[:-1]).strip() == reply
    assert batch["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in table]


def test_too_long_is_skipped_whole_and_counted(tokenizer: Any) -> None:
    template = load_template("know-medical")
    length = len(encode_dialogues([dialogue()], template, tokenizer, 10_000).examples[0].input_ids)
    fits = encode_dialogues([dialogue()], template, tokenizer, length)
    too_long = encode_dialogues([dialogue(), dialogue("Rest.", "b")], template, tokenizer, length - 1)
    assert (len(fits.examples), fits.skipped) == (1, {})
    assert (len(too_long.examples), too_long.skipped) == (1, {"too long": 1})
    assert [kept.id for kept in too_long.dialogues] == ["b"]
    assert len(too_long.lengths) == 2


def test_a_dialogue_that_the_template_refuses_is_an_error_or_skipped_and_counted() -> None:
    refused = Dialogue("b", "cough", "Rest.", turns=(Turn("system", "Be kind."), Turn("patient", "cough")))
    chat, tokenizer = load_template("chat"), with_template(SPACED)
    found = encode_dialogues([dialogue(), refused], chat, tokenizer, 256, on_invalid="skip")
    assert ([kept.id for kept in found.dialogues], found.skipped) == (["a"], {"refused by the template": 1})
    with pytest.raises(InputError, match=r"dialogue 'b' \(no system role\)"):
        encode_dialogues([refused], chat, tokenizer, 256)


def test_labels_of_a_chat_cover_what_its_template_writes_around_the_reply() -> None:
    tokenizer = with_template(SPACED)
    example = encode_dialogues([dialogue()], load_template("chat"), tokenizer, 256).examples[0]
    labels = [token for token, bit in zip(example.input_ids, example.learned, strict=True) if bit]
    assert tokenizer.decode(labels) == " Drink water and rest. </s>"


def test_a_tokenizer_without_an_end_is_refused(base: Path) -> None:
    endless = AutoTokenizer.from_pretrained(str(base))
    endless.eos_token = None
    with pytest.raises(InputError, match="end-of-sequence"):
        encode_dialogues([dialogue()], load_template("know-medical"), endless, 256)
