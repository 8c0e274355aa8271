"""Tokenizers are the same if they give the same ids for every text, whatever training left in their files."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.backends.base import ScoringRequest, TimedRequest
from harness.backends.choose import chat_tokenizer
from harness.backends.local.backend import LocalBackends
from harness.backends.local.pool import SharedPool
from harness.backends.local.sanity import check_variants
from harness.backends.local.tokenizers import same_ids
from harness.dialogues.tokens import encode_prompt
from harness.errors import InputError
from harness.variants.model import Variant
from tests.backends.local.small_models import WORDS, small_tokenizer

Trio = tuple[Variant, Variant, Variant]
TEMPLATE = "{% for message in messages %}{{ message.content }} {% endfor %}"


def padded_by(token: str) -> Callable[[Any], None]:
    return lambda tokenizer: tokenizer.add_special_tokens({"pad_token": token})


def truncating(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.enable_truncation(5)


def padding(tokenizer: Any) -> None:
    tokenizer.backend_tokenizer.enable_padding(length=64)


def chatting(tokenizer: Any) -> None:
    tokenizer.chat_template = TEMPLATE


LEFT_BY_TRAINING = [padded_by("<unk>"), padded_by("w7"), padded_by("[PAD]"), truncating, padding, chatting]


@pytest.mark.parametrize("change", LEFT_BY_TRAINING, ids=["unk", "word", "new", "truncating", "padding", "chatting"])
@pytest.mark.parametrize("where", ["adapter", "merged", "base"])
def test_what_training_leaves_in_a_tokenizer_makes_no_other_one(
    trio: Trio, tmp_path: Path, change: Callable[[Any], None], where: str
) -> None:
    variants = copies(trio, tmp_path)
    tokenizer = small_tokenizer()
    change(tokenizer)
    tokenizer.save_pretrained(tmp_path / where)
    rows = {(row.name, row.variant): row for row in check_variants(variants, SharedPool(variants))}
    assert rows["tokenizers agree", "merged"].detail == "same ids as 'base' for every text"
    assert all(row.ok for row in rows.values())


def copies(trio: Trio, folder: Path) -> Trio:
    """The three variants in folders of their own, to be changed."""
    for variant in trio:
        shutil.copytree(variant.adapter or variant.model, folder / variant.name)
    base, adapter, merged = trio
    return (
        base.model_copy(update={"model": str(folder / "base")}),
        adapter.model_copy(update={"model": str(folder / "base"), "adapter": str(folder / "adapter")}),
        merged.model_copy(update={"model": str(folder / "merged")}),
    )


def with_another_start(tokenizer: Any) -> None:
    tokenizer.bos_token = "w1"


def with_another_end(tokenizer: Any) -> None:
    tokenizer.eos_token = "w1"


def with_an_added_word(tokenizer: Any) -> None:
    tokenizer.add_tokens(["w5 w6"])


@pytest.mark.parametrize("change", [with_another_start, with_another_end, with_an_added_word])
def test_tokenizers_that_give_other_ids_are_others(change: Callable[[Any], None]) -> None:
    changed = small_tokenizer()
    change(changed)
    assert same_ids(small_tokenizer(), small_tokenizer())
    assert not same_ids(changed, small_tokenizer())


def test_a_word_with_another_id_makes_another_tokenizer(trio: Trio, tmp_path: Path) -> None:
    variants = copies(trio, tmp_path)
    file = tmp_path / "merged" / "tokenizer.json"
    text = file.read_text()
    file.write_text(text.replace('"w3": 6', '"w3": 7').replace('"w4": 7', '"w4": 6'))
    assert file.read_text() != text
    with pytest.raises(InputError, match=r"gives other ids than that of 'base' \(124 and 124 tokens\)"):
        check_variants(variants)


def test_a_padding_token_without_an_embedding_is_never_used(trio: Trio, tmp_path: Path) -> None:
    variants = copies(trio, tmp_path)
    for name in ("base", "merged"):
        tokenizer = small_tokenizer()
        tokenizer.add_special_tokens({"pad_token": "[PAD]"})
        assert tokenizer.pad_token_id == len(WORDS)
        tokenizer.save_pretrained(tmp_path / name)
    backends = LocalBackends(variants, "cpu", event=lambda kind, detail: None)
    base, _, merged = (backends.of(variant) for variant in variants)
    ids = encode_prompt(merged.tokenizer, "w1 [PAD] w2")
    assert ids == encode_prompt(small_tokenizer(), "w1 [PAD] w2")
    ((found),) = merged.divergence(variants[0], [ScoringRequest("a", tuple(ids), 1)])
    assert found.error is None
    timed = base.timed(TimedRequest("eager", ((1, 5, 6), (1, 5)), 3, natural=False, room=8, most_room=8))
    assert len(timed.stamps_ns) == 3


def test_the_adapters_chat_template_is_used_where_the_base_has_none(trio: Trio, tmp_path: Path) -> None:
    variants = copies(trio, tmp_path)
    assert chat_tokenizer(variants).chat_template is None
    tokenizer = small_tokenizer()
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(tmp_path / "adapter")
    assert chat_tokenizer(variants).chat_template == TEMPLATE
    tokenizer.chat_template = "{{ messages }}"
    tokenizer.save_pretrained(tmp_path / "base")
    assert chat_tokenizer(variants).chat_template == "{{ messages }}"
