"""A run that asks for scores and replies puts each prompt in once, and ends with the records of two separate passes."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.backends.local import backend as local
from harness.backends.local import replies as local_replies
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.joint import JointRequest
from harness.errors import InputError
from harness.passes import generation, scoring
from harness.passes.base import Recording
from harness.passes.registry import in_order
from harness.store.schema import DialogueRow, GenerationRecord, ScoringRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import context, dialogues

Trio = tuple[Variant, Variant, Variant]
SHORT = {"max_new_tokens": 12}
BOTH = ("scoring", "generation")


class Killed(BaseException):
    """Stands for SIGKILL."""


def asked(folder: Path, variants: Any, rows: Any, **config: Any) -> Any:
    """A context that asks for both passes."""
    return context(folder, variants, rows, generation=SHORT, **{"passes": BOTH, **config})


def run_both(ctx: Any) -> Any:
    generation.run(ctx)
    scoring.run(ctx)
    return ctx


def apart(folder: Path, variants: Any, rows: Any) -> Any:
    """The same by each pass for itself."""
    scoring.run(asked(folder, variants, rows, passes=["scoring"]))
    ctx = asked(folder, variants, rows, passes=["generation"])
    generation.run(ctx)
    return ctx


def scores(ctx: Any, variant: str = "base") -> dict[str, ScoringRecord]:
    records = ctx.folder.records(ScoringRecord, "scoring", variant)
    assert len(records) == len({record.id for record in records}), "a finished dialogue was scored again"
    return {record.id: record for record in records}


def replied(ctx: Any, variant: str = "base") -> dict[str, GenerationRecord]:
    records = ctx.folder.records(GenerationRecord, "generation", variant)
    assert len(records) == len({record.id for record in records}), "a finished dialogue was replied to again"
    return {record.id: record for record in records}


def nlls(ctx: Any, variant: str = "base") -> dict[str, float | None]:
    return {name: record.nll for name, record in scores(ctx, variant).items()}


def refuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be scored by the scoring pass."""

    def never(*_: Any) -> None:
        raise AssertionError("a reference was scored by itself")

    monkeypatch.setattr(local, "negative_log_likelihoods", never)


def test_one_forward_gives_the_records_of_two_passes(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = dialogues(20)
    separate = apart(tmp_path / "separate", trio, rows)
    refuse(monkeypatch)
    together = run_both(asked(tmp_path / "together", trio, rows))
    for variant in trio:
        assert replied(together, variant.name) == replied(separate, variant.name)
        assert nlls(together, variant.name) == pytest.approx(nlls(separate, variant.name), rel=1e-6)
        for name, record in scores(separate, variant.name).items():
            assert scores(together, variant.name)[name].model_copy(update={"nll": record.nll}) == record


def test_tokens_that_do_not_continue_the_prompt_s_are_scored_by_themselves(tmp_path: Path, trio: Trio) -> None:
    merges = DialogueRow(id="merges", prompt="w1 w2", reference="7 w9 w8")  # "w27" is one token
    rows = [*dialogues(4), merges]
    separate = apart(tmp_path / "separate", trio[:1], rows)
    together = asked(tmp_path / "together", trio[:1], rows)
    generation.run(together)
    assert scores(together).keys() == {"d0", "d1", "d2", "d3"}
    scoring.run(together)
    assert nlls(together) == pytest.approx(nlls(separate), rel=1e-6)
    assert replied(together) == replied(separate)


def test_what_is_too_long_for_one_pass_is_left_to_the_other(tmp_path: Path, trio: Trio) -> None:
    words = " ".join(["w1"] * 100)
    long_reference = DialogueRow(id="long-reference", prompt=words, reference=" " + " ".join(["w2"] * 40))
    long_prompt = DialogueRow(id="long-prompt", prompt=words + " w3" * 20, reference=" w4")  # 128 positions
    rows = [long_reference, long_prompt, *dialogues(2)]
    ctx = run_both(asked(tmp_path, trio[:1], rows))
    assert scores(ctx)["long-reference"].skipped == replied(ctx)["long-prompt"].skipped == "too long"
    assert replied(ctx)["long-reference"].reply is not None
    assert scores(ctx)["long-prompt"].nll is not None


def test_too_long_is_an_error_before_anything_is_made(tmp_path: Path, trio: Trio) -> None:
    row = DialogueRow(id="long", prompt=" ".join(["w1"] * 100), reference=" " + " ".join(["w2"] * 40))
    ctx = asked(tmp_path, trio[:1], [row, *dialogues(2)], dialogues={"source": "x", "too_long": "error"})
    with pytest.raises(InputError, match="prompt and reference together"):
        generation.run(ctx)
    assert not replied(ctx)


def test_a_dialogue_without_a_reference_is_replied_to_alone(tmp_path: Path, trio: Trio) -> None:
    ctx = run_both(asked(tmp_path, trio[:1], [*dialogues(3), DialogueRow(id="bare", prompt="w1 w2")]))
    assert "bare" not in scores(ctx)
    assert replied(ctx)["bare"].reply is not None


@pytest.mark.parametrize("at", range(0, 60, 7))
def test_killed_at_any_moment_it_ends_with_the_same_records(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    """To the last digit, and whichever of the two kinds of records was written last."""
    rows = dialogues(28)
    whole = run_both(asked(tmp_path / "whole", trio[:1], rows, batch_tokens=2048))
    ctx = asked(tmp_path / "killed", trio[:1], rows, batch_tokens=2048)
    left = [at]

    def count_down() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Killed

    write, finish = Recording.write, SlotDecoder._finish

    def write_or_die(self: Any, *args: Any, **kwargs: Any) -> None:
        count_down()
        write(self, *args, **kwargs)
        count_down()

    def finish_or_die(self: SlotDecoder, *args: Any, **kwargs: Any) -> Any:
        count_down()
        return finish(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Recording, "write", write_or_die)
        patch.setattr(SlotDecoder, "_finish", finish_or_die)
        with contextlib.suppress(Killed):
            run_both(ctx)
    run_both(ctx)
    assert scores(ctx) == scores(whole)
    assert replied(ctx) == replied(whole)


def test_a_score_lost_from_the_middle_of_a_group_is_made_again_to_the_last_digit(tmp_path: Path, trio: Trio) -> None:
    ctx = run_both(asked(tmp_path, trio[:1], dialogues(12)))
    whole = scores(ctx)
    path = tmp_path / "records/scoring/base.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3] + lines[4:]))
    before = (tmp_path / "records/generation/base.jsonl").read_bytes()
    run_both(ctx)
    assert scores(ctx) == whole
    assert (tmp_path / "records/generation/base.jsonl").read_bytes() == before


def test_a_finished_run_loads_no_model(tmp_path: Path, trio: Trio) -> None:
    run_both(asked(tmp_path, trio[:1], dialogues(4)))

    class Closed:
        def use(self, variant: Variant) -> Any:
            raise AssertionError("a model was loaded for nothing")

        def close(self) -> None: ...

    run_both(asked(tmp_path, trio[:1], dialogues(4), pool=Closed()))


def cramped_to(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no more than ``rows`` prompts and references go in together."""
    real = SlotDecoder._score

    def cramped(self: SlotDecoder, group: list[JointRequest], *args: Any) -> Any:
        if len(group) > rows:
            raise torch.OutOfMemoryError("no")
        return real(self, group, *args)

    monkeypatch.setattr(SlotDecoder, "_score", cramped)


def test_running_out_of_memory_halves_the_groups_and_goes_on(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run_both(asked(tmp_path / "calm", trio[:1], dialogues(20)))
    cramped_to(3, monkeypatch)
    refuse(monkeypatch)
    events: list[tuple[str, dict[str, Any]]] = []
    ctx = run_both(asked(tmp_path / "cramped", trio[:1], dialogues(20), events=events))
    assert nlls(ctx) == pytest.approx(nlls(calm), rel=1e-6)
    assert replied(ctx) == replied(calm)
    detail = {"pass": "scoring", "variant": "base"}
    assert events[:2] == [
        ("out-of-memory", {**detail, "rows": 8, "rows_now": 4}),
        ("out-of-memory", {**detail, "rows": 4, "rows_now": 2}),
    ]


def test_what_never_fits_together_is_done_apart(tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    separate = apart(tmp_path / "separate", trio[:1], dialogues(12))
    cramped_to(0, monkeypatch)
    ctx = run_both(asked(tmp_path / "cramped", trio[:1], dialogues(12)))
    assert nlls(ctx) == pytest.approx(nlls(separate), rel=1e-6)
    assert replied(ctx) == replied(separate)


def test_no_memory_for_a_slot_fails_replies_and_no_score(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(self: SlotDecoder) -> None:
        raise torch.OutOfMemoryError("no")

    monkeypatch.setattr(SlotDecoder, "_allocate", never)
    monkeypatch.setattr(SlotDecoder, "_prefill", lambda *_: never(_[0]))
    ctx = run_both(asked(tmp_path, trio[:1], dialogues(3)))
    assert [record.error for record in replied(ctx).values()] == ["out of memory, even alone in its batch"] * 3
    assert all(record.nll is not None for record in scores(ctx).values())


def test_running_out_of_memory_while_decoding_scores_nothing_twice(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = run_both(asked(tmp_path / "calm", trio[:1], dialogues(20)))
    real = SlotDecoder._step

    def cramped(self: SlotDecoder, width: int, window: int) -> torch.Tensor:
        if self.rows > 6:
            raise torch.OutOfMemoryError("no")
        return real(self, width, window)

    monkeypatch.setattr(SlotDecoder, "_step", cramped)
    ctx = run_both(asked(tmp_path / "cramped", trio[:1], dialogues(20)))
    assert scores(ctx) == scores(calm)
    assert replied(ctx) == replied(calm)


def test_a_likelihood_that_is_no_number_is_an_error_of_its_score_alone(tmp_path: Path, trio: Trio) -> None:
    rows = [*dialogues(5), DialogueRow(id="poisoned", prompt="w1 w2\n", reference="w5 stop w6")]
    records = []
    for passes in (["generation"], BOTH):
        ctx = asked(tmp_path / "-".join(passes), trio[:1], rows, passes=passes)
        with ctx.backends.pool.use(trio[0]) as loaded, torch.no_grad():
            poison = loaded.tokenizer.convert_tokens_to_ids("stop")
            loaded.model.model.embed_tokens.weight[poison] = float("nan")
        generation.run(ctx)
        records.append(replied(ctx))
    assert records[0] == records[1]
    assert records[0]["poisoned"].error is None
    assert scores(ctx)["poisoned"].error == "the log-likelihood is nan"
    assert all(scores(ctx)[f"d{i}"].nll is not None for i in range(5))


def test_a_model_that_is_not_decoded_in_slots_is_scored_by_the_scoring_pass(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    separate = apart(tmp_path / "separate", trio[:1], dialogues(8))
    monkeypatch.setattr(local_replies, "why_not", lambda *_, **__: "for the test's sake")
    ctx = asked(tmp_path / "slow", trio[:1], dialogues(8))
    generation.run(ctx)
    assert not scores(ctx)
    assert ctx.progress.total == {"generation base": 8}, "a count that stays at 0 was shown"
    scoring.run(ctx)
    assert ctx.progress.done["scoring base"] == ctx.progress.total["scoring base"] == 8
    assert scores(ctx) == scores(separate)
    assert replied(ctx) == replied(separate)


def test_both_tasks_advance_and_neither_is_shown_again(tmp_path: Path, trio: Trio) -> None:
    ctx = asked(tmp_path, trio[:1], dialogues(11))
    generation.run(ctx)
    assert ctx.progress.done == ctx.progress.total == {"generation base": 11, "scoring base": 11}
    assert min(ctx.progress.tokens.values()) > 0
    ctx.progress.done.clear()
    scoring.run(ctx)
    assert not ctx.progress.done


@pytest.mark.parametrize("name", BOTH)
def test_a_pass_asked_for_alone_makes_its_own_records_alone(tmp_path: Path, trio: Trio, name: str) -> None:
    ctx = asked(tmp_path, trio[:1], dialogues(5), passes=[name])
    {"scoring": scoring, "generation": generation}[name].run(ctx)
    assert [path.name for path in (tmp_path / "records").iterdir()] == [name]
    assert ctx.progress.done == {f"{name} base": 5}


def test_generation_runs_before_scoring_where_both_are_asked_for() -> None:
    def order(*names: str) -> list[str]:
        return [one.name for one in in_order(names)]

    assert order("scoring", "generation", "fidelity") == ["generation", "scoring", "fidelity"]
    assert order("scoring", "latency") == ["scoring", "latency"]
