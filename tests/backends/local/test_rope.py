"""Models whose rotary frequencies depend on a row's length, against transformers one row at a time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.base import DecodingSettings, Reply, ReplyRequest, ScoringRequest
from harness.backends.local.loading import context_length
from harness.backends.local.pool import LoadedModel
from harness.backends.local.replies import generate_replies
from harness.backends.local.scoring import CausalForward, in_batches, negative_log_likelihoods
from harness.progress import EventKind
from harness.variants.model import Variant
from tests.backends.local.small_models import END, WORDS, small_tokenizer
from tests.backends.local.test_decoding import SETTINGS, plain, requests

ORIGINAL = 32  # tokens of pre-training; most replies of ``requests`` pass it
LONG_ROPE = {
    "rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [2.0] * 4, "rope_theta": 10000.0,
    "original_max_position_embeddings": ORIGINAL,
}  # fmt: skip
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "longrope": ("phi3", {"rope_parameters": LONG_ROPE, "original_max_position_embeddings": ORIGINAL}),
    "dynamic": ("llama", {"rope_parameters": DYNAMIC, "max_position_embeddings": ORIGINAL}),
}


def fresh(name: str) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    kind, stated = MODELS[name]
    torch.manual_seed(0)
    settings: dict[str, Any] = {
        "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "initializer_range": 0.3, "bos_token_id": 1,
        "eos_token_id": END, "pad_token_id": END, "max_position_embeddings": 128, **stated,
    }  # fmt: skip
    return AutoModelForCausalLM.from_config(AutoConfig.for_model(kind, **settings), dtype=torch.float32).eval()


def lend(model: Any) -> LoadedModel:
    return LoadedModel(Variant(name="m", kind="base", model="m"), model, small_tokenizer(), "cpu", 0.0)


@pytest.mark.parametrize("name", MODELS)
def test_replies_that_pass_the_original_length_equal_transformers(name: str) -> None:
    wanted = requests(12)
    assert any(len(request) <= ORIGINAL < len(request) + SETTINGS.max_new_tokens for request in wanted)
    made = generate_replies(lend(fresh(name)), wanted, SETTINGS)
    replies = {reply.id: reply.tokens for reply in made if isinstance(reply, Reply)}
    # A fresh model for each: what one row leaves behind must not decide over the next.
    assert replies == {request.id: plain(lend(fresh(name)), request) for request in wanted}


def test_only_replies_that_pass_it_are_made_slowly_and_it_is_said_why() -> None:
    events: list[tuple[EventKind, Any]] = []

    def path(prompt_tokens: int, new_tokens: int) -> list[str]:
        events.clear()
        request = ReplyRequest("r", tuple(range(3, 3 + prompt_tokens)))
        settings = DecodingSettings(new_tokens, fixed_length=True)
        list(generate_replies(lend(fresh("longrope")), [request], settings, event=lambda *event: events.append(event)))
        return [detail["reason"] for _, detail in events]

    assert path(20, 12) == []  # 32 tokens in all
    assert "long rope" in path(20, 13)[0]
    assert "long rope" in path(32, 1)[0]
    assert path(33, 12) == []


@pytest.mark.parametrize("name", MODELS)
def test_every_likelihood_equals_that_of_a_fresh_model(name: str) -> None:
    wanted = [ScoringRequest(one.id, (*one.ids, *range(5, 25)), len(one)) for one in requests(12)]
    loaded = lend(fresh(name))
    forward = CausalForward(loaded.model)

    def measure(batch: list[ScoringRequest]) -> list[float]:
        return negative_log_likelihoods(forward, batch, "cpu")

    found = in_batches(loaded, wanted, measure, work="scoring", event=lambda *_: None)
    nll = {request.id: value for request, value in found}
    for request in wanted:
        with torch.no_grad():
            logits = fresh(name)(torch.tensor([request.ids[:-1]])).logits[0, request.context - 1 :]
        want = torch.nn.functional.cross_entropy(logits, torch.tensor(request.reference), reduction="sum").item()
        assert nll[request.id] == pytest.approx(want, rel=1e-6)


def written(folder: Path, kind: str, **stated: Any) -> str:
    from transformers import AutoConfig

    AutoConfig.for_model(kind, hidden_size=32, num_attention_heads=4, **stated).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("write", "tokens"),
    [
        (lambda folder: written(folder, "mpt", max_seq_len=512), 512),
        (lambda folder: written(folder, "bloom", seq_length=1024), 1024),
        (lambda folder: written(folder, "bloom"), 2**31),
        (lambda folder: written(folder, "gpt2", n_positions=256), 256),
        (lambda folder: written(folder, "llama", max_position_embeddings=64, rope_parameters=DYNAMIC), 256),
        (lambda folder: written(folder, "phi3", max_position_embeddings=128, rope_parameters=LONG_ROPE), 128),
    ],
)
def test_the_context_is_read_under_each_architectures_own_name(
    tmp_path: Path, write: Callable[[Path], str], tokens: int
) -> None:
    assert context_length(write(tmp_path)) == tokens
