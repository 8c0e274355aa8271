"""The fidelity pass: the divergence of two models, checked against plain arithmetic and against known cases."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from harness.backends.local import divergence, merge_errors
from harness.backends.local.divergence import Comparison, differences
from harness.backends.local.merge_errors import weight_errors
from harness.backends.local.pool import SharedPool
from harness.dialogues.tokens import encode_scored
from harness.errors import InputError
from harness.passes import fidelity
from harness.store.folder import prune_records
from harness.store.schema import FidelityRecord
from harness.variants.folders import local_variants
from harness.variants.model import Variant
from harness.variants.relations import FidelityPair, pairs, unpaired
from harness.variants.resolve import ResolvedVariants
from tests.backends.local.small_models import context, dialogues, save_base, small_tokenizer

Trio = tuple[Variant, Variant, Variant]


def found(ctx: Any, variant: str) -> dict[str, FidelityRecord]:
    return {record.id: record for record in ctx.folder.records(FidelityRecord, "fidelity", variant)}


def against(variant: str, other: str) -> list[dict[str, str]]:
    return [{"variant": variant, "against": other}]


def plain(ctx: Any, variant: Variant, row: Any) -> torch.Tensor:
    with ctx.backends.pool.use(variant) as loaded, torch.no_grad():
        ids, n_context = encode_scored(loaded.tokenizer, row.prompt, row.reference)
        result: torch.Tensor = loaded.model(torch.tensor([ids])).logits[0, n_context - 1 : -1].double().log_softmax(-1)
        return result


def test_divergence_equals_plain_arithmetic_one_dialogue_at_a_time(tmp_path: Path, trio: Trio) -> None:
    base, adapter, _ = trio
    ctx = context(tmp_path, trio, dialogues(10), fidelity=against("base", "adapter"), batch_tokens=200)
    fidelity.run(ctx)
    for row in ctx.dialogues:
        p, q = plain(ctx, base, row), plain(ctx, adapter, row)
        record = found(ctx, "base")[row.id]
        assert record.kl == pytest.approx((q.exp() * (q - p)).sum(-1).tolist(), rel=1e-3, abs=1e-5)
        assert record.agree == int((p.argmax(-1) == q.argmax(-1)).sum())
        assert record.reference_tokens == len(p)
        assert sum(record.kl) > 0.1


def test_swapping_the_pair_swaps_the_nlls_and_keeps_what_is_symmetric(tmp_path: Path, trio: Trio) -> None:
    one = context(tmp_path / "1", trio, dialogues(6), fidelity=against("base", "adapter"))
    two = context(tmp_path / "2", trio, dialogues(6), fidelity=against("adapter", "base"))
    fidelity.run(one)
    fidelity.run(two)
    for name, a in found(one, "base").items():
        b = found(two, "adapter")[name]
        assert (a.nll, a.nll_against) == (b.nll_against, b.nll)
        assert (a.agree, a.max_abs_dlogp) == (b.agree, b.max_abs_dlogp)
        assert a.kl != b.kl


def test_a_variant_against_itself_is_at_no_distance(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio, dialogues(5), fidelity=against("adapter", "adapter"))
    fidelity.run(ctx)
    for record in found(ctx, "adapter").values():
        assert set(record.kl) == {0.0}
        assert record.agree == record.reference_tokens
        assert record.max_abs_dlogp == 0.0


def test_a_good_merge_is_close_to_its_adapter_by_default(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio, dialogues(5))
    fidelity.run(ctx)
    assert {record.against for record in found(ctx, "merged").values()} == {"adapter"}
    for record in found(ctx, "merged").values():
        assert max(record.kl) < 1e-6
        assert record.nll == pytest.approx(record.nll_against, rel=1e-4)


def test_scoring_and_fidelity_agree_on_the_nll(tmp_path: Path, trio: Trio) -> None:
    from harness.passes import scoring
    from harness.store.schema import ScoringRecord

    ctx = context(tmp_path, trio, dialogues(5))
    scoring.run(ctx)
    fidelity.run(ctx)
    scored = {record.id: record.nll for record in ctx.folder.records(ScoringRecord, "scoring", "merged")}
    assert {name: record.nll for name, record in found(ctx, "merged").items()} == pytest.approx(scored, rel=1e-5)


def test_default_pairs_are_merged_against_its_adapter_and_quantised_against_plain(trio: Trio) -> None:
    base, adapter, merged = trio
    nf4 = base.model_copy(update={"name": "base-nf4", "quantization": "nf4"})
    adapters = [adapter.model_copy(update={"name": n, "adapter_digest": n}) for n in ("a", "b")]
    merges = [merged.model_copy(update={"name": f"m{n}", "adapter_digest": n}) for n in ("a", "b")]
    made = pairs([base, nf4, *adapters, *merges], None)
    assert [(p.variant, p.against) for p in made] == [("base-nf4", "base"), ("ma", "a"), ("mb", "b")]
    assert pairs([base, *adapters, merged], None) == ()  # from which of the two is not known


def test_a_pair_with_an_unknown_name_is_an_input_error(trio: Trio) -> None:
    with pytest.raises(InputError, match="no variant 'mergd'"):
        pairs(trio, (FidelityPair(variant="mergd", against="base"),))


def test_finished_pairs_are_not_compared_again_and_another_pair_is(
    tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch
) -> None:
    fidelity.run(context(tmp_path, trio, dialogues(4)))
    calls: list[int] = []
    real = Comparison.measure
    monkeypatch.setattr(Comparison, "measure", lambda self, batch: calls.append(1) or real(self, batch))
    fidelity.run(context(tmp_path, trio, dialogues(4)))
    assert calls == []
    fidelity.run(context(tmp_path, trio, dialogues(4), fidelity=against("merged", "base")))
    assert calls == [1]


def test_records_bear_the_keys_by_which_a_continued_run_keeps_them(tmp_path: Path, trio: Trio) -> None:
    asked = against("merged", "adapter") + against("merged", "base")
    ctx = context(tmp_path, trio, dialogues(4), fidelity=asked)
    fidelity.run(ctx)
    keys = {ctx.key("fidelity", trio[2], row) for row in ctx.dialogues}
    assert prune_records(ctx.folder.records_path("fidelity", "merged"), keys) == 0
    assert len(ctx.folder.records(FidelityRecord, "fidelity", "merged")) == 8


def test_no_more_logits_than_a_chunk_are_held(tmp_path: Path, trio: Trio, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = context(tmp_path / "whole", trio, dialogues(6))
    fidelity.run(whole)
    seen: list[int] = []

    def watched(log_p: torch.Tensor, log_q: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        seen.append(len(log_p))
        return differences(log_p, log_q, targets)

    monkeypatch.setattr("harness.backends.local.scoring.LOGIT_CHUNK_BYTES", 4 * 124 * 3 * 7)
    monkeypatch.setattr(divergence, "differences", watched)
    ctx = context(tmp_path / "chunked", trio, dialogues(6))
    fidelity.run(ctx)
    assert max(seen) == 7
    for name, record in found(ctx, "merged").items():
        assert record.nll == pytest.approx(found(whole, "merged")[name].nll, rel=1e-6)


def test_where_a_distribution_is_zero_its_kl_term_is_zero() -> None:
    q = torch.tensor([[0.5, 0.5, 0.0]]).log()
    p = torch.tensor([[0.25, 0.25, 0.5]]).log()
    table = differences(p, q, torch.tensor([0]))
    assert table[0].item() == pytest.approx(0.6931, abs=1e-4)


def test_a_merge_made_elsewhere_has_its_weight_errors_computed(tmp_path: Path, trio: Trio) -> None:
    ctx = context(tmp_path, trio, dialogues(2))
    fidelity.run(ctx)
    weights = json.loads((tmp_path / "fidelity_weights.json").read_text())["variants"]["merged"]
    assert weights["source"] == "computed"
    assert len(weights["worst_layers"]) == 6  # three modules in two layers
    assert weights["mean_relative_error"] < 1e-5


@pytest.mark.parametrize("quantization", ["none", "nf4"])
def test_over_the_weights_in_memory_a_merge_has_the_same_errors_and_they_stay_as_they_are(
    tmp_path: Path, trio: Trio, quantization: str
) -> None:
    base, adapter, merged = trio
    adapter = adapter.model_copy(update={"quantization": quantization})
    pool = SharedPool((base, adapter, merged))
    with pool.use(base) as loaded:
        before = {name: weight.clone() for name, weight in loaded.model.named_parameters()}
    over_files = weight_errors(merged, (base, adapter, merged), pool)
    found = merge_errors._over_loaded(
        adapter.model_copy(update={"kind": "base", "adapter": None}), adapter, merged, pool
    )
    assert found is not None
    assert len(found) == 6
    worst = sorted((layer.model_dump() for layer in found), key=lambda layer: -layer["relative_error"])
    assert worst == over_files["worst_layers"]
    with pool.use(base) as loaded:
        assert all(torch.equal(weight, before[name]) for name, weight in loaded.model.named_parameters())


def test_the_layer_that_a_merge_lost_is_named_first(tmp_path: Path, trio: Trio) -> None:
    base, adapter, merged = trio
    folder = shutil.copytree(merged.model, tmp_path / "lossy")
    tensors = load_file(folder / "model.safetensors")
    name = "model.layers.1.self_attn.v_proj.weight"
    tensors[name] = load_file(Path(base.model) / "model.safetensors")[name]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    lossy = merged.model_copy(update={"model": str(folder)})
    fidelity.run(context(tmp_path / "run", [base, adapter, lossy], dialogues(2)))
    worst = json.loads((tmp_path / "run/fidelity_weights.json").read_text())["variants"]["merged"]["worst_layers"]
    assert worst[0]["name"] == "model.layers.1.self_attn.v_proj.weight"
    assert worst[0]["relative_error"] == pytest.approx(1.0)
    assert worst[0]["kept"] == pytest.approx(0.0, abs=1e-6)
    assert worst[1]["relative_error"] < 1e-4


@pytest.mark.parametrize("what", ["tokenizer", "embeddings"])
def test_variants_over_other_tokens_are_noted_and_do_not_end_the_run(tmp_path: Path, trio: Trio, what: str) -> None:
    base, adapter, merged = trio
    if what == "tokenizer":
        folder = Path(shutil.copytree(merged.model, tmp_path / "other"))
        small_tokenizer(extra=["w999"]).save_pretrained(folder)
    else:
        folder = save_base(tmp_path / "other", vocab_size=128)
    other = merged.model_copy(update={"model": str(folder)})
    events: list[tuple[str, dict[str, Any]]] = []
    ctx = context(tmp_path / "run", [base, adapter, other], dialogues(3), events=events)
    fidelity.run(ctx)
    assert [record.error for record in found(ctx, "merged").values()] == ["'adapter' has a different vocabulary"] * 3
    assert [kind for kind, _ in events] == ["not-comparable"]


def test_the_weight_errors_of_a_dora_made_elsewhere_are_those_of_a_dora(tmp_path: Path, trio: Trio) -> None:
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    base, adapter, merged = trio
    untyped: Any = AutoModelForCausalLM
    config = LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=["q_proj"], use_dora=True)
    model = get_peft_model(untyped.from_pretrained(base.model), config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name or "magnitude" in name:
            parameter.data.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(tmp_path / "dora")
    whole = PeftModel.from_pretrained(untyped.from_pretrained(base.model), tmp_path / "dora").merge_and_unload()
    whole.save_pretrained(tmp_path / "whole")
    small_tokenizer().save_pretrained(tmp_path / "whole")
    variants = [
        base,
        adapter.model_copy(update={"adapter": str(tmp_path / "dora")}),
        merged.model_copy(update={"model": str(tmp_path / "whole")}),
    ]
    fidelity.write_weight_errors(context(tmp_path / "run", variants, dialogues(2)))
    found = json.loads((tmp_path / "run/fidelity_weights.json").read_text())["variants"]["merged"]
    assert (found["source"], len(found["worst_layers"])) == ("computed", 2)
    assert found["mean_relative_error"] < 1e-5


def test_an_adapter_and_its_merge_listed_by_hand_are_compared(tmp_path: Path, trio: Trio) -> None:
    from finetune.merging import MergeOptions, merge_adapter

    base, adapter, _ = trio
    other = Path(shutil.copytree(str(adapter.adapter), tmp_path / "other"))
    tensors = load_file(other / "adapter_model.safetensors")
    save_file({name: tensor * 0.5 for name, tensor in tensors.items()}, other / "adapter_model.safetensors")
    merge_adapter(base.model, Path(str(adapter.adapter)), tmp_path / "made", MergeOptions(device="cpu"))
    listed = (
        Variant(name="base", kind="base", model=base.model),
        Variant(name="weaker", kind="adapter", model=base.model, adapter=str(other)),
        Variant(name="adapter", kind="adapter", model=base.model, adapter=adapter.adapter),
        Variant(name="merged", kind="merged", model=str(tmp_path / "made")),
    )
    variants = local_variants(ResolvedVariants(listed, None, None)).variants
    ctx = context(tmp_path / "run", variants, dialogues(3))
    fidelity.PASS.measure(ctx)
    assert {record.against for record in found(ctx, "merged").values()} == {"adapter"}
    assert all(max(record.kl) < 1e-6 for record in found(ctx, "merged").values())


def merge_of(digest: str | None) -> Variant:
    return Variant(name="merged", kind="merged", model="m", adapter_digest=digest)


def adapter_named(name: str) -> Variant:
    return Variant(name=name, kind="adapter", model="b", adapter=name, adapter_digest=name)


BASE = Variant(name="base", kind="base", model="b")
NF4 = Variant(name="base-nf4", kind="base", model="b", quantization="nf4")


@pytest.mark.parametrize(
    ("variants", "wanted", "reasons"),
    [
        ([BASE, adapter_named("a")], None, dict.fromkeys(("base", "a"), "no variant of the run is a merged model")),
        ([BASE, merge_of("a")], None, {"merged": "the adapter it was merged from is not among the variants"}),
        ([BASE, adapter_named("a"), merge_of("z")], None, {"merged": "none of the adapters among the variants is"}),
        ([adapter_named("a"), adapter_named("b"), merge_of(None)], None, {"merged": "no record of the adapter"}),
        ([NF4], None, {"base-nf4": "the same base unquantised is not among the variants"}),
        ([NF4, adapter_named("a"), merge_of("a")], None, {"base-nf4": "the same base unquantised is not"}),
        ([BASE, NF4, adapter_named("a"), merge_of("a")], None, {}),
        ([BASE, merge_of("a")], (), dict.fromkeys(("base", "merged"), "the config names no pair")),
        ([BASE, merge_of("a")], (FidelityPair(variant="merged", against="base"),), {}),
    ],
)
def test_a_variant_that_could_be_compared_and_is_not_has_a_reason(
    variants: list[Variant], wanted: Any, reasons: dict[str, str]
) -> None:
    told = unpaired(variants, wanted)
    assert told.keys() == reasons.keys()
    assert all(reasons[name] in why for name, why in told.items())
