"""Adapters of every kind beside their base: each variant gives what it gives when plain PEFT loads it alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoftQConfig, LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, MixtralConfig, Qwen2Config

from harness.backends.local import loading
from harness.backends.local.memory_worker import measure
from harness.backends.local.pool import SharedPool
from harness.backends.local.sanity import check_variants
from harness.backends.local.sharing import Untouched, checksum, probe
from harness.errors import InputError
from harness.progress import EventKind
from harness.variants.model import Variant
from harness.variants.nf4 import dequantize, nf4_config, quantize
from tests.backends.local.small_models import WORDS, save_base, small_tokenizer

IDS = torch.tensor([[1, 5, 9, 20, 31, 40, 41, 42, 77, 101, 3, 8]])
SIZES: dict[str, Any] = {
    "vocab_size": len(WORDS), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128, "initializer_range": 0.2,
}  # fmt: skip
SPOILING: dict[str, dict[str, Any]] = {
    "pissa": {"init_lora_weights": "pissa"},
    "pissa of a random start": {"init_lora_weights": "pissa_niter_4"},
    "olora": {"init_lora_weights": "olora"},
    "bias all": {"bias": "all"},
    "bias lora_only": {"bias": "lora_only"},
    "embeddings": {},
    "layer replication": {"layer_replication": [(0, 2), (1, 2)]},
    "loftq": {"init_lora_weights": "loftq", "loftq_config": LoftQConfig(loftq_bits=4)},
}
SHARING: dict[str, dict[str, Any]] = {
    "plain": {},
    "dora": {"use_dora": True},
    "modules to save": {"modules_to_save": ["embed_tokens", "lm_head"]},
    "trainable tokens": {"trainable_token_indices": [5, 9]},
    "embedding layer": {"target_modules": ["embed_tokens", "q_proj"]},
    "experts": {"target_parameters": ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]},
    "corda": {"init_lora_weights": "corda", "corda_config": CordaConfig(corda_method="kpm")},
}


CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, {}),
    "qwen2": (Qwen2Config, {}),
    "mixtral": (MixtralConfig, {"num_local_experts": 4}),
}
ARCHITECTURES = {"bias all": "qwen2", "bias lora_only": "qwen2", "experts": "mixtral"}  # of the base; others: llama


def loftq_on_the_host(weight: torch.Tensor, *, reduced_rank: int, **_: Any) -> tuple[torch.Tensor, ...]:
    """One step of LoftQ; PEFT's own takes it on a GPU only."""
    rounded = dequantize(quantize(weight.detach())).float()
    left, sizes, right = torch.linalg.svd(weight.detach() - rounded, full_matrices=False)
    root = sizes[:reduced_rank].sqrt()
    return rounded, root[:, None] * right[:reduced_rank], left[:, :reduced_rank] * root


@pytest.fixture(autouse=True, scope="module")
def _loftq_without_a_gpu() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("peft.tuners.lora.layer.loftq_init", loftq_on_the_host)
        yield


def save_model(folder: Path, architecture: str) -> Path:
    torch.manual_seed(0)
    config, options = CONFIGS[architecture]
    model: Any = AutoModelForCausalLM.from_config(config(**SIZES, **options))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.2)
    model.save_pretrained(folder)
    small_tokenizer().save_pretrained(folder)
    return folder


def save_trained(base: Path, folder: Path, kind: str, options: Mapping[str, Any], seed: int = 1) -> Path:
    """Write an adapter whose trainable parameters were moved at random, as training would."""
    torch.manual_seed(seed)
    config = LoraConfig(
        **{"r": 4, "target_modules": ["q_proj", "v_proj", "down_proj"], "task_type": "CAUSAL_LM", **options}
    )
    model: Any = AutoModelForCausalLM.from_pretrained(base)
    if kind == "corda":
        preprocess_corda(model, config, run_model=lambda: nll(model))
    model = get_peft_model(model, config)
    # CorDA cannot be loaded again as it is, so PEFT turns it into a plain LoRA: its start is needed for that.
    model.save_pretrained(folder / "start")
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    if kind == "corda":
        model.save_pretrained(folder, path_initial_model_for_weight_conversion=str(folder / "start"))
        return folder
    model.save_pretrained(folder, save_embedding_layers=kind == "embeddings")
    if kind == "embeddings":
        file = folder / "adapter_model.safetensors"
        tensors = load_file(file)
        name = next(name for name in tensors if "embed_tokens" in name)
        tensors[name] = tensors[name] + torch.randn_like(tensors[name]) * 0.1
        save_file(tensors, file, metadata={"format": "pt"})
    return folder


def nll(model: Any) -> float:
    with torch.no_grad():
        logits = model(input_ids=IDS, use_cache=False).logits[0, :-1]
    return float(torch.nn.functional.cross_entropy(logits, IDS[0, 1:]))


def of_pool(pool: SharedPool, variant: Variant) -> float:
    with pool.use(variant) as loaded:
        return nll(loaded.model)


def alone(variant: Variant) -> float:
    """Return what plain transformers and PEFT compute, loaded for this variant only."""
    model: Any = AutoModelForCausalLM.from_pretrained(variant.model)
    if variant.adapter:
        torch.manual_seed(0)  # a PiSSA of a random start takes another part out of the weights each time
        model = PeftModel.from_pretrained(model, variant.adapter)
    return nll(model.eval())


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Variant]:
    root = tmp_path_factory.mktemp("bases")
    return {
        name: Variant(name="base", kind="base", model=str(save_model(root / name, name)), dtype="float32")
        for name in CONFIGS
    }


@pytest.fixture(scope="module")
def adapters(bases: dict[str, Variant], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Variant]:
    root = tmp_path_factory.mktemp("adapters")
    made: dict[str, Variant] = {}

    def adapter(kind: str) -> Variant:
        if kind not in made:
            base = bases[ARCHITECTURES.get(kind, "llama")]
            name = kind.replace(" ", "-")
            folder = save_trained(Path(base.model), root / name, kind, {**SPOILING, **SHARING}[kind])
            changes = {"name": name, "kind": "adapter", "adapter": str(folder)}
            made[kind] = base.model_copy(update=changes)
        return made[kind]

    return adapter


def base_of(variant: Variant) -> Variant:
    return variant.model_copy(update={"name": "base", "kind": "base", "adapter": None})


@pytest.mark.parametrize("kind", [*SPOILING, *SHARING])
def test_base_and_adapter_give_what_they_give_when_loaded_apart(adapters: Callable[[str], Variant], kind: str) -> None:
    adapter = adapters(kind)
    base = base_of(adapter)
    assert abs(alone(adapter) - alone(base)) > 0.01
    for order in ((base, adapter), (adapter, base)):
        pool = SharedPool(order)
        for variant in (*order, *order):
            assert of_pool(pool, variant) == alone(variant)
        assert len(pool.loaded()) == (2 if kind in SPOILING else 1)


def test_adapters_that_share_weights_give_what_they_give_alone_in_any_order(
    adapters: Callable[[str], Variant],
) -> None:
    variants = [adapters(kind) for kind in SHARING if kind not in ARCHITECTURES]
    want = {variant.name: alone(variant) for variant in variants}
    for order in (variants, variants[::-1]):
        pool = SharedPool(order)
        for _ in range(2):
            assert {variant.name: of_pool(pool, variant) for variant in order} == want
        assert of_pool(pool, base_of(variants[0])) == alone(base_of(variants[0]))
        assert len(pool.loaded()) == 1


@pytest.mark.parametrize("kind", ["plain", "dora", "olora"])
def test_over_nf4_base_and_adapter_give_what_they_give_when_loaded_apart(tmp_path: Path, kind: str) -> None:
    """On some CPUs a forward repacks 4-bit weights, and attaching an adapter unpacks them with a loss."""
    base = save_base(tmp_path / "base")  # wide enough to be repacked
    folder = save_trained(base, tmp_path / "adapter", kind, {**SPOILING, **SHARING}[kind])
    options: Any = {"model": str(base), "dtype": "bfloat16", "quantization": "nf4"}
    adapter = Variant(name="adapter", kind="adapter", adapter=str(folder), **options)

    def loaded_apart(variant: Variant) -> float:
        model: Any = AutoModelForCausalLM.from_pretrained(
            base, quantization_config=nf4_config("bfloat16"), dtype=torch.bfloat16
        )
        if variant.adapter:
            model = PeftModel.from_pretrained(model, variant.adapter, autocast_adapter_dtype=False)
        return nll(model.eval())

    variants = (base_of(adapter), adapter)
    for order in (variants, variants[::-1]):
        pool = SharedPool(order)
        for variant in (*order, *order):
            assert of_pool(pool, variant) == loaded_apart(variant)
    pool = SharedPool(variants)
    check_variants(variants, pool)  # as in a run: adapters are attached before anything else
    for _ in range(2):
        for variant in variants:
            assert of_pool(pool, variant) == loaded_apart(variant)
        assert len(pool.loaded()) == (2 if kind in SPOILING else 1)
        pool.close()


@pytest.mark.parametrize("kind", ["pissa", "embeddings", "layer replication"])
def test_an_adapter_attached_earlier_is_the_same_after_one_that_spoils_the_weights(
    adapters: Callable[[str], Variant], kind: str
) -> None:
    plain, dora, spoiling = adapters("plain"), adapters("dora"), adapters(kind)
    pool = SharedPool([plain, spoiling])
    for variant in (plain, spoiling, dora, plain, base_of(plain), spoiling):
        assert of_pool(pool, variant) == alone(variant)
    assert [key.adapter for key in pool.loaded()] == [spoiling.adapter, None]


def test_two_adapters_that_spoil_the_weights_each_have_their_own(adapters: Callable[[str], Variant]) -> None:
    variants = [adapters("bias all"), adapters("bias lora_only")]
    pool = SharedPool(variants)
    for variant in (*variants, base_of(variants[0]), *variants):
        assert of_pool(pool, variant) == alone(variant)
    assert len(pool.loaded()) == 3


def test_an_adapter_with_weights_of_its_own_is_an_event(adapters: Callable[[str], Variant]) -> None:
    events: list[Any] = []
    plain, pissa = adapters("plain"), adapters("pissa")
    pool = SharedPool([plain, pissa], event=lambda kind, detail: events.append((kind, dict(detail))))
    for variant in (plain, pissa, plain, pissa):
        of_pool(pool, variant)
    assert events == [
        (EventKind.OWN_WEIGHTS, {"variant": "pissa", "detail": "attaching it changes the base itself"}),
    ]
    assert pool.why_apart(pissa) == "attaching it changes the base itself"
    assert pool.why_apart(plain) is None


def test_weights_that_are_lent_are_not_attached_to(adapters: Callable[[str], Variant]) -> None:
    pissa = adapters("pissa")
    base = base_of(pissa)
    pool = SharedPool([base, pissa])
    with pool.use(base) as outer:
        assert of_pool(pool, pissa) == alone(pissa)
        assert nll(outer.model) == alone(base)


def test_after_an_eviction_adapters_that_share_are_attached_without_another_proof(
    adapters: Callable[[str], Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, dora = adapters("plain"), adapters("dora")
    pool = SharedPool([plain, dora])
    want = [of_pool(pool, variant) for variant in (plain, dora)]
    pool.close()
    monkeypatch.setattr(Untouched, "of", lambda model: pytest.fail("proven already"))
    with pool.use(base_of(plain)) as outer:
        assert [of_pool(pool, variant) for variant in (plain, dora)] == want
        assert nll(outer.model) == alone(base_of(plain))
    assert len(pool.loaded()) == 1


def test_an_adapter_that_cannot_be_attached_leaves_no_weights_behind(
    adapters: Callable[[str], Variant], tmp_path: Path
) -> None:
    plain = adapters("plain")
    broken = save_trained(Path(plain.model), tmp_path / "wider", "plain", {"r": 8})
    (broken / "adapter_config.json").write_text((Path(str(plain.adapter)) / "adapter_config.json").read_text())
    other = plain.model_copy(update={"name": "wider", "adapter": str(broken)})
    pool = SharedPool([plain, other])
    for _ in range(2):
        with pytest.raises(InputError, match=r"Variant 'wider': its adapter .* cannot be loaded"):
            of_pool(pool, other)
        assert of_pool(pool, plain) == alone(plain)


def test_a_change_of_one_row_that_no_probe_reads_is_found() -> None:
    model: Any = LlamaForCausalLM(LlamaConfig(**SIZES))
    untouched = Untouched.of(model)
    assert untouched.still()
    before = probe(model)
    with torch.no_grad():
        model.model.embed_tokens.weight.data[-1, 0] += 1e-6
    assert torch.equal(probe(model), before)
    assert not untouched.still()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8, torch.bool])
def test_a_checksum_covers_every_byte_of_any_dtype(dtype: torch.dtype) -> None:
    tensor = torch.zeros(13, dtype=dtype)
    for place in range(13):
        changed = tensor.clone()
        changed[place] = 1
        assert checksum(changed) != checksum(tensor)
        assert checksum(changed[1:]) == checksum(changed[1:].clone())


@pytest.mark.parametrize("kind", [*SPOILING, *SHARING])
def test_the_checks_say_who_has_weights_of_its_own(adapters: Callable[[str], Variant], kind: str) -> None:
    variants = (base_of(adapters(kind)), adapters(kind))
    rows = check_variants(variants, SharedPool(variants))
    assert all(row.ok for row in rows)
    assert {row.detail for row in rows if row.name == "adapter leaves its base as it is"} == {
        "attaching it changes the base itself, so it has weights of its own"
        if kind in SPOILING
        else "to the last bit, so they share weights"
    }


def test_the_memory_of_an_adapter_with_weights_of_its_own_is_that_of_one_set(
    adapters: Callable[[str], Variant], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads: list[str] = []
    real = loading.load_weights

    def counted(variant: Variant, device: str) -> Any:
        loads.append(variant.name)
        return real(variant, device)

    monkeypatch.setattr(loading, "load_weights", counted)
    question = {"variant": adapters("pissa").model_dump(), "device": "cpu", "batch": 1, "prompt_tokens": 8}
    found = measure({**question, "reply_tokens": 2})
    assert loads == ["pissa"]
    assert found["weights_mib"] > 0
