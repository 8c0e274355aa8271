"""What training and merging a 7 B cost: QLoRA and bf16 LoRA steps at the llama2-7b recipe's settings, and the merge.

The model has Llama-2-7B's geometry and random weights made on the spot: nothing is fetched, and neither speed nor
memory depends on what the weights say. Every sequence has the recipe's full length, which is the most that a training
can meet. Peak memory is torch's ``max_memory_allocated``, beside what ``--dry-run`` estimates for the same step.

    python benchmarks/train_merge_gpu.py --out benchmarks/results/train_merge_h100.json
    python benchmarks/train_merge_gpu.py --shape tiny --steps 2 --device cpu --out tiny.json     # the same in seconds
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from finetune.recipe import Recipe, load_recipe

SHAPES: dict[str, dict[str, int]] = {
    "7b": {
        "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
    },
    "tiny": {
        "hidden_size": 128, "intermediate_size": 384, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 4, "vocab_size": 512, "max_position_embeddings": 256,
    },
}  # fmt: skip


def main() -> None:
    """Read the options, run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--steps", type=int, default=4, help="updates of each training; the first is not timed")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--merge-devices", default="", help="comma-separated; default the training's device")
    parser.add_argument("--strategies", default="dequantized", help="comma-separated")
    parser.add_argument("--work", type=Path, help="folder for models (35 GB for 7b); default a temporary one")
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    options = parser.parse_args()
    folder = options.work or Path(tempfile.mkdtemp(prefix="train-merge-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        result = measure(folder, options)
    finally:
        if options.work is None:
            shutil.rmtree(folder, ignore_errors=True)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({key: result[key] for key in ("training", "merge")}, indent=1))


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Make the model, train in both ways, merge; return everything measured with where it comes from."""
    from harness.backends.local.device import resolve_device
    from harness.store.provenance import provenance

    device = resolve_device(options.device)
    started = time.monotonic()
    base = make_model(folder / "base", options.shape, device)
    made = time.monotonic() - started
    say(f"made the model in {made:.0f} s")
    training = {}
    for name, quantization in (("nf4", "nf4"), ("bf16", "none")):
        training[name] = train(base, folder / f"adapter-{name}", quantization, device, options)
        say(f"{name}: {training[name]}")
    merges = {}
    devices = options.merge_devices.split(",") if options.merge_devices else [device]
    for strategy in options.strategies.split(","):
        for on in devices:
            merges[f"{strategy} on {on}"] = merge(base, folder / "adapter-nf4", folder / "merged", strategy, on)
            say(f"merge {strategy} on {on}: {merges[f'{strategy} on {on}']}")
    return {
        "benchmark": "train_merge_gpu",
        "shape": {"name": options.shape, **SHAPES[options.shape]},
        "model_made_seconds": round(made, 1),
        "training": training,
        "merge": merges,
        "provenance": provenance(42),
    }


def make_model(folder: Path, shape: str, device: str) -> Path:
    """Save a Llama of the shape with random bf16 weights, and a small tokenizer."""
    import torch
    from tokenizers import Tokenizer, models
    from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

    if (folder / "config.json").is_file():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    config = LlamaConfig(
        **SHAPES[shape], tie_word_embeddings=False, dtype="bfloat16", architectures=["LlamaForCausalLM"]
    )
    torch.manual_seed(0)
    untyped: Any = AutoModelForCausalLM
    with torch.device(device):
        model = untyped.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
        model.save_pretrained(str(folder), max_shard_size="4GB")
    words = {"<unk>": 0, "<s>": 1, "</s>": 2, "word": 3}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<unk>")),
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(str(folder))
    return folder


def train(base: Path, out: Path, quantization: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train at the recipe's settings; return tokens/s after the first update, and peak memory beside its estimate."""
    from finetune.dataset import TrainingSet
    from finetune.training import TrainingJob, train_adapter
    from harness.files import read_json
    from harness.progress import SilentProgress

    recipe = recipe_for(quantization, device, options)
    batch = int(recipe.training["per_device_train_batch_size"])
    sequences = batch * int(recipe.training["gradient_accumulation_steps"])
    examples = full_length(recipe.max_length, sequences * options.steps, int(SHAPES[options.shape]["vocab_size"]))
    nothing = TrainingSet((), (), {}, ())
    job = TrainingJob(
        recipe, base, examples, nothing, key=f"benchmark-{quantization}", facts={"quantization": quantization}
    )
    stamps: list[float] = []

    class Stamps(SilentProgress):
        def advance(self, task: str, done: int = 1, tokens: int = 0, detail: str = "") -> None:
            if done:
                synchronize(device)
                stamps.append(time.monotonic())

    train_adapter(job, out, notify=say, progress=Stamps())
    facts = read_json(out / "finetune.json")["training"]
    seconds = (stamps[-1] - stamps[0]) / max(len(stamps) - 1, 1)
    measured = facts.get("peak_allocated_mib")
    estimated = estimate(base, recipe, batch)
    return {
        "batch": batch,
        "accumulation": sequences // batch,
        "tokens_a_sequence": recipe.max_length,
        "seconds_an_update": round(seconds, 3),
        "tokens_per_s": round(sequences * recipe.max_length / seconds, 1) if seconds else None,
        "peak_allocated_mib": measured,
        "estimated_mib": estimated,
        "estimate_over_measured": round(estimated["peak"] / measured, 4) if measured else None,
    }


def recipe_for(quantization: str, device: str, options: argparse.Namespace) -> Recipe:
    overrides = [f"quantization={quantization}", f"device={device}", f"training.max_steps={options.steps}"]
    overrides.append("training.logging_steps=1")
    if options.shape == "tiny":
        overrides += ["max_length=64", "training.gradient_accumulation_steps=2"]
    return load_recipe("llama2-7b", overrides)


def full_length(length: int, count: int, vocabulary: int) -> Any:
    """Return examples of random ids that fill the context: the second half of each is learned."""
    import random

    from finetune.dataset import TrainingExample, TrainingSet
    from harness.dialogues.model import Dialogue

    draw = random.Random(0)
    half = length // 2
    examples = tuple(
        TrainingExample(
            tuple(draw.randrange(3, vocabulary) for _ in range(length)),
            (0,) * half + (1,) * (length - half),
        )
        for _ in range(count)
    )
    dialogues = tuple(Dialogue(id=f"{n}", prompt=f"{n}", reference=f"{n}") for n in range(count))
    return TrainingSet(examples, dialogues, {}, tuple(length for _ in examples))


def estimate(base: Path, recipe: Recipe, batch: int) -> dict[str, float]:
    """Return what the dry run would say of this very step."""
    from finetune.dry_run import count_parameters
    from finetune.estimate import Architecture, Workload, estimate_memory
    from harness.files import read_json

    architecture = Architecture.of(read_json(base / "config.json"))
    workload = Workload(
        batch=batch,
        tokens=recipe.max_length,
        dropout=bool(recipe.lora["lora_dropout"]),
        checkpointing=bool(recipe.training["gradient_checkpointing"]),
        optimizer=recipe.training["optim"],
        learned_tokens=batch * (recipe.max_length - recipe.max_length // 2),
    )
    return estimate_memory(architecture, count_parameters(base, recipe), workload).mib()


def merge(base: Path, adapter: Path, out: Path, strategy: str, device: str) -> dict[str, Any]:
    """Merge in a process of its own, so that its peaks are the merge's; return what its report says."""
    from harness.files import read_json

    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "finetune", "merge", "--base", str(base), "--adapter", str(adapter)]
    started = time.monotonic()
    subprocess.run([*command, "--out", str(out), "--strategy", strategy, "--device", device], check=True)
    wall = time.monotonic() - started
    report = read_json(out / "merge.json")
    kept = ("seconds", "peak_rss_mib", "peak_allocated_mib", "layers", "delta_to_weight", "mean_kept",
            "mean_relative_error", "largest_quantization_error")  # fmt: skip
    size = sum(file.stat().st_size for file in out.glob("*.safetensors"))
    largest = max(file.stat().st_size for file in out.glob("*.safetensors"))
    return {
        **{key: report[key] for key in kept},
        "wall_seconds": round(wall, 1),
        "model_mib": round(size / 2**20, 1),
        "largest_shard_mib": round(largest / 2**20, 1),
    }


def synchronize(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def say(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
