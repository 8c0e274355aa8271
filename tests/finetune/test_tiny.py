"""The embedded base: it loads like any other, is the same when made twice, and is what the recipe describes."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from finetune.tiny import RECORD, SMALLEST, TinyBase, TinySize, build_tiny_base, place_tiny_base, shipped_base
from finetune.tiny.pretrain import held_out_loss, read_record, recipe_digest
from harness.files import digest_file

SIZE = replace(SMALLEST, steps=10)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyBase:
    return build_tiny_base(tmp_path_factory.mktemp("tiny") / "base", size=SIZE)


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


def test_made_twice_it_is_the_same_and_leaves_the_callers_random_numbers_alone(tiny: TinyBase, tmp_path: Path) -> None:
    import torch

    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    steps: list[int] = []
    twin = build_tiny_base(tmp_path / "twin", size=SIZE, progress=lambda done, loss: steps.append(done))
    assert torch.equal(torch.rand(1), expected)
    assert (twin.digest, weights_digest(twin)) == (tiny.digest, weights_digest(tiny))
    assert sum(steps) == SIZE.steps


def test_another_seed_replaces_it_and_leaves_no_scratch(tmp_path: Path) -> None:
    out = tmp_path / "base"
    size = replace(SMALLEST, steps=1)
    known = weights_digest(build_tiny_base(out, size=size))
    other = build_tiny_base(out, size=size, seed=7)
    assert weights_digest(other) != known
    assert [path.name for path in tmp_path.iterdir()] == ["base"]


def test_its_record_says_what_made_it(tiny: TinyBase) -> None:
    record = json.loads((tiny.path / RECORD).read_text(encoding="utf-8"))
    assert record["digest"] == tiny.digest
    assert record["size"] == asdict(SIZE)
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(record["files"])


# --- the shipped base -----------------------------------------------------------------------------------------------
def test_the_shipped_base_was_made_by_the_recipe_as_it_is_now() -> None:
    assert read_record(shipped_base()).digest == recipe_digest(seed=42, size=TinySize())


def test_the_shipped_files_are_those_that_were_recorded_and_small() -> None:
    recorded = json.loads((shipped_base() / RECORD).read_text(encoding="utf-8"))["files"]
    assert {name: digest_file(shipped_base() / name) for name in recorded} == recorded
    assert (shipped_base() / "model.safetensors").stat().st_size < 4_000_000


def test_the_shipped_base_predicts_unseen_documents_as_well_as_was_recorded() -> None:
    assert held_out_loss(shipped_base(), seed=42) == pytest.approx(read_record(shipped_base()).held_out_loss, abs=0.002)


def test_placing_the_base_restores_what_is_missing_or_damaged_and_touches_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "base"
    place_tiny_base(out)
    (out / "model.safetensors").write_bytes(b"damaged")
    (out / "tokenizer.json").unlink()
    untouched = (out / "config.json").stat().st_mtime_ns
    placed = place_tiny_base(out)
    assert digest_file(out / "model.safetensors") == digest_file(shipped_base() / "model.safetensors")
    assert sorted(file.name for file in out.iterdir()) == sorted(file.name for file in shipped_base().iterdir())
    assert (out / "config.json").stat().st_mtime_ns == untouched
    assert placed.parameters == 1_869_568
