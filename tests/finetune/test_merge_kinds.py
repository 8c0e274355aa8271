"""Every kind of adapter over every kind of architecture merges into what was trained.

What was trained is the PEFT model at the moment its adapter was saved; its logits are the values to reach. Where PEFT
can merge as well, its merged weights are those to reach.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    FalconConfig,
    GemmaConfig,
    GPT2Config,
    LlamaConfig,
    MixtralConfig,
    Qwen2Config,
    Qwen3MoeConfig,
)

from finetune.merging import MergeOptions, merge_adapter, saving
from finetune.merging.agreement import _distance, rounding
from harness.errors import HarnessError
from tests.finetune.conftest import make_tokenizer

IDS = torch.tensor([[1, 5, 9, 200, 17, 3, 7, 250, 30, 5, 11, 90]])
SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
GATED = {**SMALL, "intermediate_size": 128, "num_key_value_heads": 2}
ARCHITECTURES: dict[str, Any] = {
    "llama": lambda: LlamaConfig(**GATED),
    "llama-tied": lambda: LlamaConfig(**GATED, tie_word_embeddings=True),
    "gemma": lambda: GemmaConfig(**GATED, head_dim=16),  # ties its embeddings by its class
    "qwen2": lambda: Qwen2Config(**GATED),
    "mixtral": lambda: MixtralConfig(**GATED, num_local_experts=4),  # experts fused in memory, apart on disk
    "qwen3-moe": lambda: Qwen3MoeConfig(**GATED, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=32),
    "falcon": lambda: FalconConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4),
    "gpt2": lambda: GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=256),
}


@pytest.fixture(scope="module")
def base_of(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return the folder of a random float32 model; its configuration states no ``tie_word_embeddings``."""
    root = tmp_path_factory.mktemp("bases")

    def build(architecture: str) -> Path:
        folder = root / architecture
        if not folder.exists():
            make_tokenizer(folder)
            config = ARCHITECTURES[architecture.removesuffix("-hub")]()
            config.vocab_size = len(AutoTokenizer.from_pretrained(str(folder)))
            config.bos_token_id, config.eos_token_id = 1, 2
            torch.manual_seed(0)
            AutoModelForCausalLM.from_config(config).save_pretrained(str(folder))
            if architecture != "llama-tied":
                state(folder, tie_word_embeddings=None)
            if architecture.endswith("-hub"):
                tensors = load_file(folder / "model.safetensors")
                short = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
                save_file(short, folder / "model.safetensors", metadata={"format": "pt"})
        return folder

    return build


def state(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({key: value for key, value in config.items() if value is not None}), encoding="utf-8")


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()


@torch.no_grad()
def train(base: Path, folder: Path, **options: Any) -> torch.Tensor:
    """Save an adapter as if trained, and return the logits of the model it was trained in."""
    torch.manual_seed(1)
    config = LoraConfig(task_type="CAUSAL_LM", **{"r": 4, "lora_alpha": 8, "target_modules": "all-linear", **options})
    model = get_peft_model(load(base), config).eval()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(torch.randn_like(parameter) * 0.05)
    model.save_pretrained(str(folder))
    logits: torch.Tensor = model(IDS).logits
    return logits


@torch.no_grad()
def difference(found: torch.Tensor, wanted: torch.Tensor) -> float:
    return float((found - wanted).norm() / wanted.norm())


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, "gpt2-hub"])
def test_a_lora_on_all_linear_layers_is_merged_into_what_was_trained(
    base_of: Any, tmp_path: Path, architecture: str
) -> None:
    base = base_of(architecture)
    trained = train(base, tmp_path / "adapter")
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", MergeOptions(device="cpu"))
    merged = load(tmp_path / "merged")
    assert difference(merged(IDS).logits, trained) < 1e-5 < difference(load(base)(IDS).logits, trained)
    theirs = PeftModel.from_pretrained(load(base), str(tmp_path / "adapter")).merge_and_unload().state_dict()
    for name, tensor in merged.state_dict().items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-5, atol=1e-6, msg=name)
    assert (report.trained_quantization, report.strategy) == ("none", "original")
    assert report.mean_kept == pytest.approx(1.0, abs=1e-4)


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("head", {"target_modules": ["q_proj", "c_attn", "query_key_value", "lm_head"]}),
        ("embedding", {"target_modules": ["q_proj", "c_attn", "query_key_value", "INPUT"]}),
        ("saved-head", {"modules_to_save": ["lm_head"]}),
        ("saved-embedding", {"modules_to_save": ["INPUT"]}),
        ("saved-both", {"modules_to_save": ["INPUT"], "ensure_weight_tying": True}),
        ("tokens", {"trainable_token_indices": [5, 7]}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.parametrize("architecture", ["llama", "llama-tied", "gemma", "gpt2-hub"])
def test_an_adapter_on_embeddings_is_merged_whether_they_are_tied_or_not(
    base_of: Any, tmp_path: Path, architecture: str, kind: str, options: dict[str, Any]
) -> None:
    base = base_of(architecture)
    name = "wte" if architecture == "gpt2-hub" else "embed_tokens"
    options = {key: [name if one == "INPUT" else one for one in value] if isinstance(value, list) else value
               for key, value in options.items()}  # fmt: skip
    trained = train(base, tmp_path / "adapter", **options)
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", MergeOptions(device="cpu"))
    assert difference(load(tmp_path / "merged")(IDS).logits, trained) < 1e-5
    assert report.mean_kept == pytest.approx(1.0, abs=1e-4)
    if kind != "saved-both":  # there peft decides
        tied = AutoConfig.from_pretrained(str(tmp_path / "merged")).tie_word_embeddings
        assert tied == (architecture != "llama" and kind == "tokens")


@pytest.mark.parametrize(
    "options",
    [
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "orthogonal"},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"lora_bias": True, "target_modules": ["q_proj", "k_proj"]},
        {"use_dora": True},
        {"use_rslora": True, "rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.self_attn.q_proj": 32}},
        {"target_modules": ["q_proj", "query_key_value", "c_attn"]},
        {"target_modules": r".*layers\.1.*(q|down)_proj"},
    ],
    ids=["pissa", "olora", "orthogonal", "bias", "lora-only", "lora-bias", "dora", "patterns", "absent", "regex"],
)
def test_every_way_of_training_a_lora_is_merged_into_what_was_trained(
    base_of: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    base = base_of("qwen2")  # has biases
    trained = train(base, tmp_path / "adapter", **options)
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", MergeOptions(device="cpu"))
    assert difference(load(tmp_path / "merged")(IDS).logits, trained) < 1e-5
    assert report.logits_difference is not None
    assert report.logits_difference < 1e-5 < (report.adapter_effect or 0)


def test_replaced_tensors_enter_the_error(base_of: Any, tmp_path: Path) -> None:
    base = base_of("qwen2")
    train(base, tmp_path / "adapter", target_modules=["q_proj"], modules_to_save=["lm_head"], bias="lora_only")
    options = MergeOptions(device="cpu", dtype="bfloat16")
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", options)
    names = {layer.name.split("layers.")[-1]: layer for layer in report.worst_layers}
    assert set(names) == {f"{layer}.self_attn.q_proj.{own}" for layer in (0, 1) for own in ("weight", "bias")} | {
        "lm_head.weight"
    }
    file = load_file(tmp_path / "adapter" / "adapter_model.safetensors")["base_model.model.lm_head.weight"]
    before = load(base).state_dict()["lm_head.weight"].bfloat16().float()
    lost = (file.bfloat16().float() - file).norm() / (file - before).norm()
    assert names["lm_head.weight"].relative_error == pytest.approx(float(lost), rel=1e-4)
    assert names["lm_head.weight"].relative_error > 0.001


def test_an_adapter_made_elsewhere_is_merged_into_the_unquantised_base(base_of: Any, tmp_path: Path) -> None:
    from finetune.pipeline import describe_merge

    base = base_of("llama")
    train(base, tmp_path / "adapter")
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", MergeOptions(device="cpu"))
    assert (report.strategy, report.trained_quantization, report.quantization_assumed) == ("original", "none", True)
    assert "--quantization nf4" in describe_merge(report)
    stated = MergeOptions(device="cpu", quantization="nf4")
    report = merge_adapter(str(base), tmp_path / "adapter", tmp_path / "merged", stated)
    assert (report.strategy, report.trained_quantization, report.quantization_assumed) == ("dequantized", "nf4", False)


def one_layer_left_out(merged: Any, base: Any) -> None:
    merged["model.layers.1.self_attn.o_proj.weight"].copy_(base["model.layers.1.self_attn.o_proj.weight"])


def scaled_twice(merged: Any, base: Any) -> None:
    for name, tensor in merged.items():
        tensor.add_(tensor - base[name])


def transposed(merged: Any, base: Any) -> None:
    tensor = merged["model.layers.0.self_attn.q_proj.weight"]
    tensor.copy_(tensor.T.clone())


def not_merged(merged: Any, base: Any) -> None:
    for name, tensor in merged.items():
        tensor.copy_(base[name])


def another_row(merged: Any, base: Any) -> None:
    merged["lm_head.weight"][7] += 0.05


@pytest.mark.parametrize(
    ("dtype", "fault"),
    [
        *(("float32", fault) for fault in (not_merged, scaled_twice, one_layer_left_out, transposed, another_row)),
        *(("bfloat16", fault) for fault in (not_merged, scaled_twice)),  # it rounds by more than the others differ
    ],
)
def test_a_merge_gone_wrong_is_found_by_its_logits_and_leaves_nothing(
    base_of: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: Any, fault: Any
) -> None:
    base = base_of("qwen2")
    train(base, tmp_path / "adapter")
    save = saving.save_merged

    @torch.no_grad()
    def spoil(model: Any, *args: Any, **options: Any) -> None:
        fault(model.state_dict(), {name: tensor.to(model.dtype) for name, tensor in load(base).state_dict().items()})
        save(model, *args, **options)

    monkeypatch.setattr("finetune.merging.merge.save_merged", spoil)
    with pytest.raises(HarnessError, match=r"does not compute what the adapter computes: its logits differ by .*%"):
        merge_adapter(str(base), tmp_path / "adapter", tmp_path / "out", MergeOptions(device="cpu", dtype=dtype))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_what_rounding_may_explain_grows_with_depth_and_coarseness(base_of: Any) -> None:
    model = load(base_of("llama"))
    assert rounding(model) == 1e-4
    # 7 linear layers and 2 norms in each of 2 layers, an embedding, a norm and a head; bfloat16 keeps 8 bits.
    assert rounding(model.bfloat16()) == pytest.approx(3 * 0.41 * (2 * 21) ** 0.5 * 2**-8)


def test_a_token_sent_to_another_expert_does_not_decide_where_there_is_a_router() -> None:
    wanted = torch.ones(9, 4)
    found = wanted.clone()
    found[0] = -1.0
    assert _distance(found, wanted, routed=True) == 0.0
    assert _distance(found, wanted, routed=False) == pytest.approx(2 / 3)
