"""The scoring pass: right numbers, whatever the batch; nothing done twice; nothing lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.base import ScoringRequest
from harness.backends.local import backend as local
from harness.backends.local import scoring as likelihood
from harness.backends.local.pool import SharedPool
from harness.backends.local.scoring import CausalForward
from harness.dialogues.tokens import encode_scored
from harness.errors import InputError
from harness.passes import scoring
from harness.store.schema import ChatText, DialogueRow, ScoringRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import context, dialogues, small_llama, small_tokenizer
from tests.shared_data import shared

Trio = tuple[Variant, Variant, Variant]


def reference_nll(model: Any, tokenizer: Any, row: DialogueRow) -> float:
    """The plain way: one dialogue, one forward, the whole vocabulary, in double precision."""
    ids, n_context = encode_scored(tokenizer, row.prompt, str(row.reference))
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return -sum(logits[i - 1, ids[i]].item() for i in range(n_context, len(ids)))


def found(ctx: Any, variant: str) -> dict[str, ScoringRecord]:
    return {record.id: record for record in ctx.folder.records(ScoringRecord, "scoring", variant)}


@pytest.mark.parametrize("batch_tokens", [None, 64, 1])
def test_nll_equals_a_plain_loop_for_every_variant(tmp_path: Path, trio: Trio, batch_tokens: int | None) -> None:
    ctx = context(tmp_path, trio, dialogues(25), batch_tokens=batch_tokens)
    scoring.run(ctx)
    for variant in trio:
        records = found(ctx, variant.name)
        with ctx.backends.pool.use(variant) as loaded:
            for row in ctx.dialogues:
                want = reference_nll(loaded.model, loaded.tokenizer, row)
                assert records[row.id].nll == pytest.approx(want, rel=1e-4)
    assert found(ctx, "base")["d0"].nll != pytest.approx(found(ctx, "adapter")["d0"].nll, rel=1e-2)
    assert found(ctx, "merged")["d0"].nll == pytest.approx(found(ctx, "adapter")["d0"].nll, rel=1e-4)


def test_the_reference_of_a_chat_is_scored_where_its_template_puts_it(tmp_path: Path, trio: Trio) -> None:
    joined = ChatText(context="<s>w1 w2 w3 w4 ", reference="w5 w6")  # w3 w4: what the template adds to the prompt
    row = DialogueRow(id="x", prompt="<s>w1 w2", reference="w5", chat=joined)
    ctx = context(tmp_path, trio[:1], [row])
    scoring.run(ctx)
    with ctx.backends.pool.use(trio[0]) as loaded:
        ids = loaded.tokenizer("<s>w1 w2 w3 w4 w5 w6", add_special_tokens=False)["input_ids"]
        assert len(ids) == 7
        with torch.no_grad():
            logits = loaded.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    want = -sum(logits[i - 1, ids[i]].item() for i in (5, 6))
    assert found(ctx, "base")["x"].nll == pytest.approx(want, rel=1e-4)
    assert found(ctx, "base")["x"].reference_tokens == 2


def test_logits_in_several_chunks_give_the_same_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    forward = CausalForward(small_llama())
    batch = [ScoringRequest("a", (1, 5, 6, 7, 8, 9), 2), ScoringRequest("b", (1, 9, 8), 1)]
    whole = likelihood.negative_log_likelihoods(forward, batch, "cpu")
    monkeypatch.setattr(likelihood, "LOGIT_CHUNK_BYTES", 4 * 124 * 2)
    assert likelihood.negative_log_likelihoods(forward, batch, "cpu") == pytest.approx(whole, rel=1e-6)


def test_a_model_that_scales_its_logits_is_scored_as_a_whole(tmp_path: Path) -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=124, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=8, final_logit_softcapping=1.0, initializer_range=0.5,
    )  # fmt: skip
    model = Gemma2ForCausalLM(config).eval()
    forward = CausalForward(model)
    assert not forward.splits
    row = DialogueRow(id="x", prompt="w1 w2 w3", reference=" w4 w5 w6")
    ids, n_context = encode_scored(small_tokenizer(), row.prompt, str(row.reference))
    got = likelihood.negative_log_likelihoods(forward, [ScoringRequest("x", tuple(ids), n_context)], "cpu")
    assert got[0] == pytest.approx(reference_nll(model, small_tokenizer(), row), rel=1e-4)


def test_finished_dialogues_are_not_scored_again(tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    scoring.run(context(tmp_path, trio, dialogues(6)))
    before = {v.name: (tmp_path / f"records/scoring/{v.name}.jsonl").read_bytes() for v in trio}

    def refuse(*_: Any) -> None:
        raise AssertionError("a finished dialogue was scored again")

    monkeypatch.setattr(local, "negative_log_likelihoods", refuse)
    scoring.run(context(tmp_path, trio, dialogues(6)))
    assert {v.name: (tmp_path / f"records/scoring/{v.name}.jsonl").read_bytes() for v in trio} == before


def test_an_interrupted_run_ends_with_exactly_the_same_numbers(tmp_path: Path, trio: Trio) -> None:
    """Also to the last digit, which a dialogue's neighbours in its batch would change."""
    ctx = context(tmp_path, trio[:1], dialogues(6), batch_tokens=2048)
    scoring.run(ctx)
    whole = found(ctx, "base")
    path = tmp_path / "records/scoring/base.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    scoring.run(ctx)
    assert found(ctx, "base") == whole
    assert len(path.read_text().splitlines()) == 6


def test_records_under_another_key_are_not_taken_for_ours(tmp_path: Path, trio: Trio) -> None:
    rows = dialogues(4)
    scoring.run(context(tmp_path, trio[:1], rows))
    other = [row.model_copy(update={"prompt": "w7 w8\n"}) for row in rows]
    ctx = context(tmp_path, trio[:1], other)
    scoring.run(ctx)
    keys = {ctx.key("scoring", trio[0], row): row for row in other}
    records = [r for r in ctx.folder.records(ScoringRecord, "scoring", "base") if r.key in keys]
    with ctx.backends.pool.use(trio[0]) as loaded:
        for record in records:
            want = reference_nll(loaded.model, loaded.tokenizer, keys[record.key])
            assert record.nll == pytest.approx(want, rel=1e-4)
    assert len(records) == 4


LONG = DialogueRow(id="long", prompt=" ".join(["w1", "w2"] * 60), reference=" " + " ".join(["w3"] * 20))


def test_a_dialogue_too_long_for_the_context_is_skipped_and_says_so(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio[:1], [*dialogues(3), LONG])
    scoring.run(ctx)
    assert found(ctx, "base")["long"].skipped == "too long"
    assert found(ctx, "base")["long"].nll is None
    assert ctx.progress.done["scoring base"] == 4  # type: ignore[attr-defined]


def test_cut_left_keeps_the_reference_and_the_opening_token(tmp_path: Path, trio: Trio) -> None:
    dialogues_config = {"source": "x", "too_long": "cut-left"}
    ctx = context(tmp_path, trio[:1], [LONG], dialogues=dialogues_config)
    scoring.run(ctx)
    record = found(ctx, "base")["long"]
    assert record.reference_tokens == 20
    assert record.prompt_tokens == 108  # 128 positions
    with ctx.backends.pool.use(trio[0]) as loaded:
        ids = loaded.tokenizer(LONG.prompt + str(LONG.reference))["input_ids"]
        kept = [1, *ids[-127:]]
        logits = loaded.model(torch.tensor([kept])).logits[0].double().log_softmax(-1)
        want = -sum(logits[i - 1, kept[i]].item() for i in range(108, 128))
    assert record.nll == pytest.approx(want, rel=1e-4)


def test_too_long_is_an_error_where_the_config_says_so(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio[:1], [LONG], dialogues={"source": "x", "too_long": "error"})
    with pytest.raises(InputError, match="first in dialogue 'long'"):
        scoring.run(ctx)


def test_running_out_of_memory_halves_the_batch_and_goes_on(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dialogues(20)
    calm = context(tmp_path / "calm", trio[:1], rows, batch_tokens=2048)
    scoring.run(calm)
    real = local.negative_log_likelihoods

    def cramped(forward: Any, batch: list[ScoringRequest], device: str) -> list[float]:
        if len(batch) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate more than there is.")
        return real(forward, batch, device)

    monkeypatch.setattr(local, "negative_log_likelihoods", cramped)
    events: list[tuple[str, dict[str, Any]]] = []
    ctx = context(tmp_path / "cramped", trio[:1], rows, events=events, batch_tokens=2048)
    scoring.run(ctx)
    assert {k: r.nll for k, r in found(ctx, "base").items()} == pytest.approx(
        {k: r.nll for k, r in found(calm, "base").items()}, rel=1e-5
    )
    assert events[0] == ("out-of-memory", {"pass": "scoring", "variant": "base", "rows": 20, "rows_now": 10})


def test_a_dialogue_that_does_not_fit_alone_is_recorded_and_the_others_are_scored(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = local.negative_log_likelihoods

    def cramped(forward: Any, batch: list[ScoringRequest], device: str) -> list[float]:
        if any(request.id == "d2" for request in batch):
            raise torch.OutOfMemoryError("no")
        return real(forward, batch, device)

    monkeypatch.setattr(local, "negative_log_likelihoods", cramped)
    ctx = context(tmp_path, trio[:1], dialogues(8))
    scoring.run(ctx)
    records = found(ctx, "base")
    assert records["d2"].error is not None
    assert all(records[f"d{i}"].nll is not None for i in range(8) if i != 2)


def test_an_empty_reference_is_an_error_of_its_dialogue_alone(tmp_path: Path, trio: Trio) -> None:
    rows = [*dialogues(2), DialogueRow(id="empty", prompt="w1", reference="")]
    ctx = context(tmp_path, trio[:1], rows)
    scoring.run(ctx)
    assert found(ctx, "base")["empty"].error
    assert found(ctx, "base")["d1"].nll is not None


def test_base_and_adapter_share_one_set_of_weights(tmp_path: Path, trio: Trio) -> None:
    pool = SharedPool(trio)
    scoring.run(context(tmp_path, trio, dialogues(3), pool=pool))
    assert len(pool.loaded()) == 2  # base with its adapter, and merged


@pytest.mark.shared
def test_real_dialogues_on_a_real_model_equal_the_plain_loop(tmp_path: Path) -> None:
    model = shared("models/medllama-7m")
    source = shared("data/medquad-treatments/medquad_treatments.jsonl")
    import json

    lines = [json.loads(line) for line in source.read_text().splitlines()[:200:25]]
    rows = [DialogueRow(id=x["id"], prompt=f"Q: {x['instruction']}\nA: ", reference=x["output"][:600]) for x in lines]
    variant = Variant(name="base", kind="base", model=str(model), dtype="float32")
    ctx = context(tmp_path, [variant], rows)
    scoring.run(ctx)
    with ctx.backends.pool.use(variant) as loaded:
        for row in rows:
            want = reference_nll(loaded.model, loaded.tokenizer, row)
            assert found(ctx, "base")[row.id].nll == pytest.approx(want, rel=1e-4)
