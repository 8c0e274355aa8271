"""Replies of a served variant compared with the local one it claims to be, with margins checked in plain torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from harness.dialogues.tokens import encode_prompt
from harness.passes import fidelity, generation, served_replies
from harness.passes.base import PassContext
from harness.store.folder import RecordWriter
from harness.store.schema import FidelityRecord, GenerationRecord
from harness.variants.model import Variant
from tests.backends.local.small_models import context, dialogues, save_base
from tests.backends.scripted import Scripted, Words


class Both:
    """The backends of a run whose served variant is never asked: what it replied is on disk."""

    def __init__(self, local: Any, served: str) -> None:
        self._local, self._served = local, served

    def of(self, variant: Variant) -> Any:
        return Scripted() if variant.name == self._served else self._local.of(variant)


@pytest.fixture
def run(tmp_path: Path) -> PassContext:
    """A run in which the local model has replied to six dialogues."""
    model = str(save_base(tmp_path / "base"))
    local = Variant(name="local", kind="base", model=model, dtype="float32")
    served = Variant(
        name="served", kind="endpoint", url="http://127.0.0.1:1/v1", model="m", tokenizer=model, same_as="local"
    )
    alone = context(tmp_path / "run", (local,), dialogues(6), generation={"max_new_tokens": 8})
    generation.run(alone)
    both: Any = Both(alone.backends, "served")
    return PassContext(**{**vars(alone), "variants": (local, served), "backends": both})


def reply_as(run: PassContext, **changed: dict[str, Any]) -> dict[str, FidelityRecord]:
    """Let the server reply as the local model does but for the changes, and compare."""
    with RecordWriter(run.folder.records_path("generation", "served")) as out:
        for one in run.folder.records(GenerationRecord, "generation", "local"):
            out.append([one.model_copy(update=changed.get(one.id, {}))])
    fidelity.run(run)
    return {one.id: one for one in run.folder.records(FidelityRecord, "fidelity", "served")}


def local_replies(run: PassContext) -> dict[str, GenerationRecord]:
    return {one.id: one for one in run.folder.records(GenerationRecord, "generation", "local")}


def test_identical_replies_need_no_model(run: PassContext, monkeypatch: pytest.MonkeyPatch) -> None:
    found = reply_as(run)
    assert {one.identical for one in found.values()} == {True}
    assert {one.against for one in found.values()} == {"local"}
    assert {(one.parts_at, one.margin, one.behind) for one in found.values()} == {(None, None, None)}


def test_margins_are_those_of_the_local_model_at_the_first_difference(run: PassContext) -> None:
    ours = local_replies(run)["d2"]
    at, other = 3, (ours.tokens[3] + 5) % 100 + 3
    found = reply_as(run, d2={"reply": "another", "tokens": (*ours.tokens[:at], other, 9, 9)})["d2"]
    variant, row = run.variants[0], run.dialogues[2]
    with run.backends.of(variant)._among.pool.use(variant) as loaded, torch.no_grad():  # type: ignore[attr-defined]
        ids = [*encode_prompt(loaded.tokenizer, row.prompt), *ours.tokens[:at]]
        log_p = loaded.model(torch.tensor([ids])).logits[0, -1].double().log_softmax(-1)
    best, second = log_p.topk(2).values.tolist()
    assert (found.identical, found.parts_at) == (False, at)
    assert found.margin == pytest.approx(best - second, abs=1e-4)
    assert found.behind == pytest.approx(best - float(log_p[other]), abs=1e-4)
    assert int(log_p.argmax()) == ours.tokens[at]  # or the local model would not be behind its own choice


def test_a_server_that_ended_the_reply_chose_the_end(run: PassContext) -> None:
    ours = local_replies(run)["d1"]
    cut = {"reply": "shorter", "tokens": ours.tokens[:2], "finish": "eos"}
    found = reply_as(run, d1=cut)["d1"]
    assert found.parts_at == 2
    assert found.behind is not None
    assert found.behind > 0


def test_a_token_that_a_stop_string_cut_off_is_not_known(run: PassContext) -> None:
    ours = local_replies(run)["d1"]
    found = reply_as(run, d1={"reply": "shorter", "tokens": ours.tokens[:2], "finish": "stop"})["d1"]
    assert (found.identical, found.parts_at, found.behind) == (False, 2, None)


def test_text_encoded_to_other_tokens_than_were_generated_is_no_choice() -> None:
    words: Any = Words()
    ours = GenerationRecord(id="a", key="", reply="rest and drink", tokens=(1, 2, 3))
    encoded = tuple(words("rest and sleep")["input_ids"])
    served = GenerationRecord(id="a", key="", reply="rest and sleep", tokens=encoded)
    assert not served_replies._choice_is_known(served, ours, 0, words)
    assert served_replies._choice_is_known(served, ours, 2, words)


def test_a_finished_comparison_is_not_made_again(run: PassContext) -> None:
    reply_as(run)
    fidelity.run(run)
    assert len(run.folder.records(FidelityRecord, "fidelity", "served")) == 6


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"passes": ("scoring", "fidelity")}, "its replies were not asked for"),
        ({"generation": {"max_new_tokens": 8, "temperature": 0.7}}, "replies are sampled"),
    ],
)
def test_what_cannot_be_compared_says_why(run: PassContext, changes: dict[str, Any], why: str) -> None:
    config = run.config.model_validate({**run.config.model_dump(mode="json"), **changes})
    assert why in fidelity.leaves_out(PassContext(**{**vars(run), "config": config}))["served"]
