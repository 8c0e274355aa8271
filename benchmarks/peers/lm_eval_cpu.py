"""This harness and lm-evaluation-harness on a CPU: 64 MedQuAD dialogues, three variants, fp32, in turns.

    python -m benchmarks.peers.lm_eval_cpu --model MODEL --data MEDQUAD.jsonl --out benchmarks/results/lm_eval_cpu.json

lm-eval's best batch size is found first, on the base. The adapter is random and small (nothing is trained here): what
is compared is time, and that both tools give the same numbers for the same strings.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.peers.jobs import (
    Done,
    Job,
    Tried,
    agreement,
    by_harness,
    by_lm_eval,
    fastest_first,
    quiet_libraries,
    tried_batches,
)
from benchmarks.peers.machine import provenance, write_result
from harness.store.schema import DialogueRow
from harness.variants.model import Variant


def main() -> None:
    """Read the options, run the benchmark and write its results."""
    arguments = _arguments()
    quiet_libraries()
    import torch

    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        job = small_job(arguments.model, arguments.data, Path(folder), arguments.dialogues, arguments.max_new_tokens)
        result: dict[str, Any] = {
            "what": "scoring and generation, all variants, loading included",
            "model": arguments.model.name,
            "dialogues": len(job.dialogues),
            "variants": [variant.name for variant in job.variants],
            "max_new_tokens": job.max_new_tokens,
            "provenance": provenance("cpu"),
            "harness": [],
            "lm_eval": [],
        }
        tried: dict[int, Tried] = {}
        for tried in tried_batches(job, arguments.batches):
            result["lm_eval_probe"] = {batch: one.summary() for batch, one in tried.items()}
            write_result(arguments.out, result)
        best = fastest_first(tried)[0]
        result["lm_eval_batch"] = best
        ours, theirs = Done(), Done()
        for _ in range(arguments.repeats):
            ours = by_harness(job)
            result["harness"].append(ours.summary())
            theirs = by_lm_eval(job, best)
            result["lm_eval"].append(theirs.summary())
            write_result(arguments.out, result)
    medians = {tool: statistics.median(run["seconds"] for run in result[tool]) for tool in ("harness", "lm_eval")}
    result["seconds"] = medians
    result["times_faster"] = medians["lm_eval"] / medians["harness"]
    result["agreement"] = agreement(ours, theirs)
    write_result(arguments.out, result)
    print(json.dumps({key: result[key] for key in ("seconds", "times_faster", "agreement")}, indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lm_eval_cpu.json"))
    parser.add_argument("--dialogues", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[8, 16, 32, 64])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    return parser.parse_args()


def small_job(base_folder: Path, data: Path, folder: Path, dialogues: int, max_new_tokens: int) -> Job:
    """Base, a random adapter, and the two merged, under ``folder``; the first dialogues that fit the context."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    torch.manual_seed(0)
    tokenizer: Any = AutoTokenizer.from_pretrained(base_folder, trust_remote_code=False)
    base: Any = AutoModelForCausalLM.from_pretrained(base_folder, dtype=torch.float32, trust_remote_code=False)
    room = base.config.max_position_embeddings - max_new_tokens
    model: Any = get_peft_model(
        base, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    )
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    model.save_pretrained(folder / "adapter")
    model.merge_and_unload().save_pretrained(folder / "merged")
    tokenizer.save_pretrained(folder / "merged")
    rows = []
    for line in data.read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        row = DialogueRow(id=str(len(rows)), prompt=f"{entry['instruction']}\n", reference=entry["output"])
        if len(tokenizer(row.prompt + str(row.reference))["input_ids"]) <= room:
            rows.append(row)
        if len(rows) == dialogues:
            break
    path = str(base_folder)
    variants = (
        Variant(name="base", kind="base", model=path, dtype="float32"),
        Variant(name="adapter", kind="adapter", model=path, adapter=str(folder / "adapter"), dtype="float32"),
        Variant(name="merged", kind="merged", model=str(folder / "merged"), dtype="float32"),
    )
    return Job(variants, tuple(rows), max_new_tokens, "cpu")


if __name__ == "__main__":
    main()
