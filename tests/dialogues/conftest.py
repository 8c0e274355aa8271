"""Dialogues and files that several tests of this package use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from harness.dialogues.model import Dialogue

WriteLines = Callable[..., Path]


@pytest.fixture
def write_lines(tmp_path: Path) -> WriteLines:
    """Write rows as a JSONL file and return its path."""

    def write(rows: Iterable[Any], name: str = "dialogues.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


def dialogue(prompt: str = "I have a cough.", reference: str | None = "Drink warm tea.", **more: Any) -> Dialogue:
    """Return a dialogue that is named by its prompt unless told otherwise."""
    return Dialogue(id=more.pop("id", prompt), prompt=prompt, reference=reference, **more)


@pytest.fixture
def byte_tokenizer() -> Any:
    """Return a tokenizer of single bytes that puts ``<s>`` in front, and has ``</s>`` and no chat template."""
    return make_tokenizer(merged=())


def make_tokenizer(merged: Iterable[str] = (), *, bos: bool = True, ends_texts: bool = False) -> Any:
    """Return a byte-level tokenizer that also knows the ``merged`` texts as tokens of their own."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate(["<s>", "</s>", *alphabet])}
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<s>", "</s>"])
    inner.add_tokens([AddedToken(text, normalized=False) for text in merged])
    if bos or ends_texts:
        pattern = f"{'<s> ' if bos else ''}$A{' </s>' if ends_texts else ''}"
        inner.post_processor = processors.TemplateProcessing(single=pattern, special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>" if bos else None, eos_token="</s>")
