"""The embedded base: it loads like any other, is the same when made twice, and is not made twice without need."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import fields
from pathlib import Path

import pytest

from finetune.tiny import RECORD, SMALLEST, TinyBase, TinySize, build_tiny_base

STEPS = 8


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return build_tiny_base(tmp_path_factory.mktemp("tiny") / "base", size=SMALLEST, steps=STEPS)


def weights_digest(base: TinyBase) -> str:
    return hashlib.sha256((base.path / "model.safetensors").read_bytes()).hexdigest()


def test_it_loads_as_a_llama_in_bf16_with_its_tokenizer(tiny: TinyBase) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(tiny.path, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tiny.path, local_files_only=True)
    assert model.config.model_type == "llama"
    assert model.dtype == torch.bfloat16
    assert model.num_parameters() == tiny.parameters
    assert tokenizer.model_max_length == model.config.max_position_embeddings == SMALLEST.context
    assert len(tokenizer) == model.config.vocab_size == SMALLEST.vocabulary


def test_the_tokenizer_puts_its_beginning_in_front_and_gives_any_text_back(tiny: TinyBase) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.path, local_files_only=True)
    for text in ("Take 500 mg twice a day.\n\n### Instruction:\n", "  naïve – 2½ µg, 発熱 😷", "x"):
        ids = tokenizer(text).input_ids
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.eos_token_id not in ids
        assert tokenizer.decode(ids[1:]) == text
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == ("<s>", "</s>", "</s>")


def test_its_chat_template_ends_a_doctors_turn(tiny: TinyBase) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny.path, local_files_only=True)
    turns = [{"role": "user", "content": "It hurts."}, {"role": "assistant", "content": "Rest."}]
    assert tokenizer.apply_chat_template(turns, tokenize=False) == "<s>Patient:\nIt hurts.\nDoctor:\nRest.</s>\n"
    asked = tokenizer.apply_chat_template(turns[:1], tokenize=False, add_generation_prompt=True)
    assert asked == "<s>Patient:\nIt hurts.\nDoctor:\n"


def test_every_matrix_that_is_quantised_holds_whole_blocks_of_64(tiny: TinyBase) -> None:
    from transformers import AutoModelForCausalLM

    for size in (SMALLEST, TinySize()):
        assert all(width % 64 == 0 for width in (size.hidden, size.intermediate, size.hidden // size.heads * 64))
    model = AutoModelForCausalLM.from_pretrained(tiny.path, local_files_only=True)
    assert all(weights.numel() % 64 == 0 for weights in model.parameters() if weights.ndim == 2)


def test_it_learns(tiny: TinyBase) -> None:
    assert tiny.loss < math.log(SMALLEST.vocabulary) - 0.1


def test_it_is_found_rather_than_made_again(tiny: TinyBase) -> None:
    before = {file.name: file.stat().st_mtime_ns for file in tiny.path.iterdir()}
    again = build_tiny_base(tiny.path, size=SMALLEST, steps=STEPS)
    assert again == TinyBase(tiny.path, tiny.digest, tiny.loss, tiny.parameters, reused=True)
    assert {file.name: file.stat().st_mtime_ns for file in tiny.path.iterdir()} == before


def test_made_twice_it_is_the_same_and_leaves_the_callers_random_numbers_alone(tiny: TinyBase, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    steps: list[tuple[int, int]] = []
    twin = build_tiny_base(
        tmp_path / "twin", size=SMALLEST, steps=STEPS, progress=lambda done, of, loss: steps.append((done, of))
    )
    assert torch.equal(torch.rand(1), expected)
    assert not twin.reused
    assert (twin.digest, weights_digest(twin)) == (tiny.digest, weights_digest(tiny))
    assert steps == [(step, STEPS) for step in range(1, STEPS + 1)]


def test_another_seed_or_a_damaged_file_makes_it_anew_and_leaves_no_scratch(tmp_path: Path) -> None:
    out = tmp_path / "base"
    first = build_tiny_base(out, size=SMALLEST, steps=1)
    known = weights_digest(first)
    (out / "model.safetensors").write_bytes(b"damaged")
    mended = build_tiny_base(out, size=SMALLEST, steps=1)
    assert (mended.reused, weights_digest(mended)) == (False, known)
    other = build_tiny_base(out, size=SMALLEST, steps=1, seed=7)
    assert not other.reused
    assert weights_digest(other) != known
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_its_record_says_what_made_it(tiny: TinyBase) -> None:
    record = json.loads((tiny.path / RECORD).read_text(encoding="utf-8"))
    assert record["digest"] == tiny.digest
    assert record["size"] == {
        **{field.name: getattr(SMALLEST, field.name) for field in fields(TinySize)},
        "steps": STEPS,
    }
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(record["files"])
