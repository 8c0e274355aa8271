"""The generation pass: the replies of plain ``generate``, recorded as they finish, once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.local import replies as local_replies
from harness.backends.local.decoding import SlotDecoder
from harness.passes import generation
from harness.passes import plans as requests
from harness.store.schema import DialogueRow, GenerationRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import END, context, dialogues
from tests.shared_data import shared

Trio = tuple[Variant, Variant, Variant]
SHORT = {"max_new_tokens": 16}


def found(ctx: Any, variant: str) -> dict[str, GenerationRecord]:
    return {record.id: record for record in ctx.folder.records(GenerationRecord, "generation", variant)}


def plain_tokens(loaded: Any, ids: list[int], most: int) -> tuple[int, ...]:
    prompt = torch.tensor([ids])
    made = loaded.model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=most, do_sample=False)
    tokens = made[0, len(ids) :].tolist()
    return tuple(tokens[: tokens.index(END)] if END in tokens else tokens)


@pytest.mark.parametrize("batch_tokens", [None, 200])
def test_every_variant_replies_as_plain_generate_does(tmp_path: Path, trio: Trio, batch_tokens: int | None) -> None:
    ctx = context(tmp_path, trio, dialogues(12), generation=SHORT, batch_tokens=batch_tokens)
    generation.run(ctx)
    for variant in trio:
        records = found(ctx, variant.name)
        with ctx.backends.pool.use(variant) as loaded:
            for row in ctx.dialogues:
                ids = loaded.tokenizer(row.prompt)["input_ids"]
                record = records[row.id]
                assert record.tokens == plain_tokens(loaded, ids, 16)
                assert record.reply == loaded.tokenizer.decode(list(record.tokens), skip_special_tokens=True)
                assert (record.prompt_tokens, record.reply_tokens) == (len(ids), len(record.tokens))
                assert record.finish == ("length" if len(record.tokens) == 16 else "eos")


def test_killed_halfway_it_continues_and_ends_the_same(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dialogues(15)
    whole = context(tmp_path / "whole", trio[:2], rows, generation=SHORT)
    generation.run(whole)

    class Killed(BaseException):
        pass

    made: list[str] = []
    real = SlotDecoder._finish

    def die_at_the_fifth(self: SlotDecoder, slot: int, *args: Any, **kwargs: Any) -> Any:
        if len(made) == 5:
            raise Killed
        reply = real(self, slot, *args, **kwargs)
        made.append(reply.id)
        return reply

    ctx = context(tmp_path / "killed", trio[:2], rows, generation=SHORT)
    with monkeypatch.context() as patch:
        patch.setattr(SlotDecoder, "_finish", die_at_the_fifth)
        with pytest.raises(Killed):
            generation.run(ctx)
    assert set(found(ctx, "base")) == set(made)
    generation.run(ctx)
    for variant in trio[:2]:
        assert found(ctx, variant.name) == found(whole, variant.name)
        assert len((tmp_path / f"killed/records/generation/{variant.name}.jsonl").read_text().splitlines()) == 15


def test_running_out_of_memory_halves_the_rows_and_changes_no_reply(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dialogues(20)
    calm = context(tmp_path / "calm", trio[:1], rows, generation=SHORT)
    generation.run(calm)
    real = SlotDecoder._step
    steps: list[int] = []

    def cramped(self: SlotDecoder, width: int, window: int) -> torch.Tensor:
        steps.append(width)
        if self.rows > 6 and len(steps) % 7 == 0:
            raise torch.OutOfMemoryError("no")
        return real(self, width, window)

    monkeypatch.setattr(SlotDecoder, "_step", cramped)
    events: list[tuple[str, dict[str, Any]]] = []
    ctx = context(tmp_path / "cramped", trio[:1], rows, generation=SHORT, events=events)
    generation.run(ctx)
    assert found(ctx, "base") == found(calm, "base")
    detail = {"pass": "generation", "variant": "base"}
    assert events == [
        ("out-of-memory", {**detail, "rows": 20, "rows_now": 10}),
        ("out-of-memory", {**detail, "rows": 10, "rows_now": 5}),
    ]


def test_no_memory_for_one_row_is_recorded_and_does_not_hang(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: SlotDecoder, slots: list[int], batch: list[Any]) -> list[int]:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(SlotDecoder, "_prefill", never)
    ctx = context(tmp_path, trio[:1], dialogues(3), generation=SHORT, passes=["generation"])
    generation.run(ctx)
    assert [record.error for record in found(ctx, "base").values()] == ["out of memory, even alone in its batch"] * 3


def test_a_model_that_cannot_decode_in_slots_takes_the_slow_path_and_the_report_says_why(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    fast = context(tmp_path / "fast", trio[:1], dialogues(8), generation=SHORT)
    generation.run(fast)
    monkeypatch.setattr(local_replies, "why_not", lambda *_, **__: "a sliding window of 8 tokens")
    events: list[tuple[str, dict[str, Any]]] = []
    slow = context(tmp_path / "slow", trio[:1], dialogues(8), generation=SHORT, events=events)
    generation.run(slow)
    assert found(slow, "base") == found(fast, "base")
    assert events[0][0] == "slow-path"
    assert events[0][1]["reason"] == "a sliding window of 8 tokens"


def test_a_repetition_penalty_of_the_models_own_is_left_out_by_both_engines_and_told(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = context(tmp_path / "plain", trio[:1], dialogues(8), generation=SHORT)
    generation.run(plain)
    for engine in ("slots", "generate"):
        if engine == "generate":
            monkeypatch.setattr(local_replies, "why_not", lambda *_, **__: "for the test's sake")
        events: list[tuple[str, dict[str, Any]]] = []
        ctx = context(tmp_path / engine, trio[:1], dialogues(8), generation=SHORT, events=events)
        with ctx.backends.pool.use(trio[0]) as loaded:
            loaded.model.generation_config.repetition_penalty = 5.0
        generation.run(ctx)
        assert found(ctx, "base") == found(plain, "base")
        assert ("generation-config-ignored", {"variant": "base", "repetition_penalty": 5.0}) in events


def test_a_prompt_without_room_for_the_reply_is_skipped(tmp_path: Path, trio: Trio) -> None:
    long = DialogueRow(id="long", prompt=" ".join(["w1"] * 112))
    fits = DialogueRow(id="fits", prompt=" ".join(["w1"] * 111))  # <s> + 111 + 16 = 128
    ctx = context(tmp_path, trio[:1], [long, fits], generation=SHORT)
    generation.run(ctx)
    assert found(ctx, "base")["long"].skipped == "too long"
    assert found(ctx, "base")["fits"].reply_tokens is not None


def test_a_reply_with_special_tokens_is_kept_with_them_too(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio[:1], dialogues(1), generation={"max_new_tokens": 3})
    with ctx.backends.pool.use(trio[0]) as loaded:
        loaded.model.lm_head.weight.zero_()  # every token is then the first one, which is special
    generation.run(ctx)
    record = found(ctx, "base")["d0"]
    assert (record.reply, record.marked) == ("", "<unk> <unk> <unk>")


def test_a_stop_string_that_can_never_occur_is_a_warning(tmp_path: Path, trio: Trio) -> None:
    events: list[tuple[str, dict[str, Any]]] = []
    stops = ["w1 w2", "\n\n", "Patient"]  # this tokenizer knows neither line breaks nor such a word
    settings = {**SHORT, "stop": stops}
    generation.run(context(tmp_path, trio[:2], dialogues(2), generation=settings, events=events))
    detail = "the tokenizer cannot write it"
    assert events == [("stop-never-occurs", {"stop": stop, "detail": detail}) for stop in stops[1:]]


def test_prompts_are_tokenised_once_for_all_variants(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real = requests.encode_prompt

    def counted(tokenizer: Any, prompt: str, **options: Any) -> list[int]:
        calls.append(prompt)
        return real(tokenizer, prompt, **options)

    monkeypatch.setattr(requests, "encode_prompt", counted)
    generation.run(context(tmp_path, trio, dialogues(5), generation=SHORT))
    assert len(calls) == 5


@pytest.mark.shared
@pytest.mark.slow
def test_real_dialogues_on_a_real_model_get_the_replies_of_plain_generate(tmp_path: Path) -> None:
    model = shared("models/medllama-7m")
    source = shared("data/medquad-treatments/medquad_treatments.jsonl")
    lines = [json.loads(line) for line in source.read_text().splitlines()[:400:20]]
    rows = [DialogueRow(id=x["id"], prompt=f"{x['instruction']}\n") for x in lines]
    variant = Variant(name="base", kind="base", model=str(model), dtype="float32")
    ctx = context(tmp_path, [variant], rows, generation={"max_new_tokens": 32}, batch_tokens=1000)
    generation.run(ctx)
    with ctx.backends.pool.use(variant) as loaded:
        for row in rows:
            ids = loaded.tokenizer(row.prompt)["input_ids"]
            assert found(ctx, "base")[row.id].tokens == plain_tokens(loaded, ids, 32)
