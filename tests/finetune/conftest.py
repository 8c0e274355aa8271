"""Small real artefacts: a random Llama with its tokenizer, and LoRA adapters over it made with plain peft."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

TEXT = "the patient has a cough and fever doctor says drink water rest call if breath gets worse ### Instruction : ."


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def make_tokenizer(folder: Path) -> None:
    """A byte-level BPE tokenizer with <s> in front, as Llama's has, and pad = EOS left for the user to fall over."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT] * 4, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
    fast.save_pretrained(str(folder))


def make_base(folder: Path, *, tied: bool = False, seed: int = 0, dtype: str = "bfloat16", layers: int = 2) -> Path:
    """Save a random Llama of 64 dimensions with its tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    make_tokenizer(folder)
    vocabulary = len(AutoTokenizer.from_pretrained(str(folder)))
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=None,
    )
    LlamaForCausalLM(config).to(getattr(torch, dtype)).save_pretrained(str(folder))
    return folder


def make_adapter(base: Path, folder: Path, *, size: float = 0.01, seed: int = 1, **options: Any) -> Path:
    """Save a random LoRA adapter whose ΔW has about ``size`` of the weights' norm."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    options = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **options}
    torch.manual_seed(seed)
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(str(base)), LoraConfig(task_type="CAUSAL_LM", **options)
    )
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=size * 0.1)
            elif "modules_to_save.default" in name:
                parameter.add_(0.01)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("models") / "base")


@pytest.fixture(scope="session")
def adapter(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_adapter(base, tmp_path_factory.mktemp("adapters") / "adapter")


@pytest.fixture
def write_json() -> Callable[[Path, Any], None]:
    def write(path: Path, value: Any) -> None:
        path.write_text(json.dumps(value), encoding="utf-8")

    return write


def write_dialogues(path: Path, count: int = 60) -> Path:
    """Write short dialogues; one in ten is too long for 250 tokens."""
    rows = []
    for number in range(count):
        reply = f"Drink water and rest, call if breath gets worse. {number}" + (" again and again" * 60) * (
            number % 10 == 0
        )
        rows.append({"id": f"d{number}", "instruction": f"The patient {number} has a cough", "output": reply})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def write_recipe(folder: Path, base: Path, **changes: Any) -> Path:
    """Write a recipe of a few small steps over ``base`` into ``folder``, with its dialogues."""
    import yaml

    folder.mkdir(parents=True, exist_ok=True)
    recipe: dict[str, Any] = {
        "base": str(base),
        "dialogues": {"source": str(write_dialogues(folder / "dialogues.jsonl"))},
        "lora": {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0},
        "training": {
            "per_device_train_batch_size": 4,
            "max_steps": 4,
            "learning_rate": 5.0e-3,
            "logging_steps": 1,
            "gradient_checkpointing": False,
            "optim": "adamw_torch",
        },
        "evaluation": {"interval": 2, "dialogues": 4},
        "max_length": 250,
    }
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({**recipe, **changes}), encoding="utf-8")
    return path
