"""Do the fast paths compute what transformers computes? Random models of many architectures, a few layers each.

Each has a base, a LoRA adapter over all its linear layers and their merge, in fp32 and bf16. Scoring and generation run
as in a harness run; the references are plain transformers and peft, one dialogue at a time. Contexts are longer than
the sliding windows. In fp32 the likelihoods must agree within ``NLL_WITHIN`` of their value, or within what
transformers differs from itself (``plain_off``: the dialogue four times in a batch, with more tokens behind it), and
the greedy replies must be equal. bf16 is reported only: there rounding decides between the nearly equal tokens of
random weights. Exits with 1 if an fp32 variant differs, or if any fails.

    python -m benchmarks.architectures --out FILE
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.machine import provenance, write_result
from benchmarks.peers.random_models import END, tokenizer_of
from harness.backends.base import DecodingSettings, Reply, ReplyRequest, ScoringRequest
from harness.backends.local.backend import LocalBackends
from harness.backends.local.batches import columns_for
from harness.backends.local.replies import slot_support
from harness.backends.local.slots import SlotAttention
from harness.progress import EventKind
from harness.variants.model import Variant

NLL_WITHIN = 1e-6
WINDOW = 64  # shorter than most prompts
NEW_TOKENS = 32
SIZES: dict[str, dict[str, Any]] = {
    "tiny": {
        "vocab_size": 128,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "head_dim": 16,
        "initializer_range": 0.1,
    },
    "small": {
        "vocab_size": 2048,
        "hidden_size": 512,
        "num_hidden_layers": 4,
        "num_attention_heads": 8,
        "head_dim": 64,
        "initializer_range": 0.04,
    },
}
EVERY_SECOND = {"layer_types": ["sliding_attention", "full_attention"]}  # repeated for all layers
ROUTED = {"num_experts_per_tok": 2, "num_local_experts": 4, "num_experts": 4}
# Every architecture's model type in transformers, and what its configuration states besides the sizes.
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "Llama": ("llama", {}),
    "Qwen2": ("qwen2", {}),
    "Qwen3": ("qwen3", {}),
    "Mistral": ("mistral", {"sliding_window": WINDOW}),
    "Gemma 2": ("gemma2", {"sliding_window": WINDOW, **EVERY_SECOND}),
    "Gemma 3": ("gemma3_text", {"sliding_window": WINDOW, **EVERY_SECOND}),
    "Phi-3": ("phi3", {"sliding_window": WINDOW}),
    "OLMo 2": ("olmo2", {}),
    # Granite's own multipliers: with 1, its scores are so large that a single key decides.
    "Granite": ("granite", {"attention_multiplier": 0.0156, "residual_multiplier": 0.22, "embedding_multiplier": 12.0}),
    "GPT-2": ("gpt2", {}),
    "GPT-NeoX": ("gpt_neox", {}),
    "Falcon": ("falcon", {"new_decoder_architecture": True, "num_kv_heads": 2}),
    "Mixtral": ("mixtral", ROUTED),
    "Qwen3-MoE": ("qwen3_moe", {**ROUTED, "decoder_sparse_step": 1}),
    "gpt-oss": ("gpt_oss", {"sliding_window": WINDOW, **EVERY_SECOND, **ROUTED}),
}


@dataclass(frozen=True)
class Work:
    """The same dialogues for every architecture, as token ids."""

    scored: tuple[ScoringRequest, ...]
    prompts: tuple[ReplyRequest, ...]


def dialogues(count: int, vocabulary: int) -> Work:
    """Return prompts of 8–120 tokens and references of 4–40, the same at every call."""
    pick = random.Random(1)

    def tokens(fewest: int, most: int) -> tuple[int, ...]:
        return tuple(pick.randrange(3, vocabulary) for _ in range(pick.randint(fewest, most)))

    prompts = [(1, *tokens(8, 120)) for _ in range(count)]
    scored = [ScoringRequest(str(i), (*prompt, *tokens(4, 40)), len(prompt)) for i, prompt in enumerate(prompts)]
    return Work(tuple(scored), tuple(ReplyRequest(str(i), prompt) for i, prompt in enumerate(prompts)))


def configuration(kind: str, stated: Mapping[str, Any], size: Mapping[str, Any]) -> Any:
    """Return the configuration of a random model of this type and size."""
    from transformers import AutoConfig

    settings: dict[str, Any] = {
        **size, "intermediate_size": 2 * size["hidden_size"], "moe_intermediate_size": size["hidden_size"],
        "num_key_value_heads": size["num_attention_heads"] // 2, "max_position_embeddings": 256, "bos_token_id": 1,
        "eos_token_id": END, "pad_token_id": END, **stated,
    }  # fmt: skip
    if kind == "falcon":  # computes it, and cannot be told
        del settings["head_dim"]
    if "layer_types" in settings:
        layers = size["num_hidden_layers"]
        settings["layer_types"] = (settings["layer_types"] * layers)[:layers]
    return AutoConfig.for_model(kind, **settings)


def write_variants(folder: Path, kind: str, stated: Mapping[str, Any], size: Mapping[str, Any], device: str) -> None:
    """Write base, adapter and merged in fp32 under ``folder``."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    auto: Any = AutoModelForCausalLM
    model = (
        auto.from_config(configuration(kind, stated, size), dtype=torch.float32, trust_remote_code=False)
        .to(device)
        .eval()
    )
    prompt = torch.arange(3, 40, device=device)[None]
    # A token that greedy replies do meet, so that they end at different lengths.
    end = int(model.generate(prompt, max_new_tokens=12, do_sample=False)[0, -1])
    model.generation_config.eos_token_id = [END, end]
    model.save_pretrained(folder / "base")
    tuned: Any = get_peft_model(model, LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM"))
    for name, parameter in tuned.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.02)
    tuned.save_pretrained(folder / "adapter")
    merged = tuned.merge_and_unload()
    merged.generation_config.eos_token_id = [END, end]
    merged.save_pretrained(folder / "merged")
    for name in ("base", "merged"):
        tokenizer_of(size["vocab_size"]).save_pretrained(folder / name)


def variants_in(folder: Path, dtype: str) -> tuple[Variant, Variant, Variant]:
    base, adapter, merged = (str(folder / name) for name in ("base", "adapter", "merged"))
    return (
        Variant(name="base", kind="base", model=base, dtype=dtype),
        Variant(name="adapter", kind="adapter", model=base, adapter=adapter, dtype=dtype),
        Variant(name="merged", kind="merged", model=merged, dtype=dtype),
    )


@torch.inference_mode()
def plainly(variant: Variant, work: Work, device: str) -> tuple[list[float], list[tuple[int, ...]], float]:
    """Return every dialogue's nll and greedy reply by transformers and peft alone, one dialogue at a time.

    The third value is the largest relative change of an nll if its dialogue is in a batch four times, and padded.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    auto: Any = AutoModelForCausalLM
    model: Any = (
        auto.from_pretrained(variant.model, dtype=getattr(torch, variant.dtype), trust_remote_code=False)
        .to(device)
        .eval()
    )
    if variant.adapter is not None:
        model = PeftModel.from_pretrained(model, variant.adapter, autocast_adapter_dtype=False).to(device).eval()
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.data = parameter.data.to(getattr(torch, variant.dtype))
    ends = model.generation_config.eos_token_id
    nll, replies, changes = [], [], []

    def loss(ids: torch.Tensor, context: int, length: int) -> float:
        logits = model(input_ids=ids).logits[0, context - 1 : length - 1].float()
        return float(torch.nn.functional.cross_entropy(logits, ids[0, context:length], reduction="sum"))

    for scored, prompt in zip(work.scored, work.prompts, strict=True):
        ids = torch.tensor([scored.ids], device=device)
        nll.append(loss(ids, scored.context, len(scored)))
        padded = torch.nn.functional.pad(ids, (0, 7), value=END).repeat(4, 1)
        changes.append(abs(loss(padded, scored.context, len(scored)) - nll[-1]) / nll[-1])
        given = torch.tensor([prompt.ids], device=device)
        made = model.generate(
            input_ids=given, attention_mask=torch.ones_like(given), max_new_tokens=NEW_TOKENS, do_sample=False,
            pad_token_id=END,
        )[0, given.shape[1] :].tolist()  # fmt: skip
        stop = next((place for place, token in enumerate(made) if token in ends), len(made))
        replies.append(tuple(made[:stop]))
    return nll, replies, max(changes)


def by_harness(
    variants: tuple[Variant, ...], work: Work, device: str
) -> Iterator[tuple[Variant, dict[str, float], dict[str, Reply], dict[str, Any]]]:
    """Yield every variant's nll and replies by the harness's own backend, and the path its replies took and why."""
    events: list[tuple[EventKind, dict[str, Any]]] = []
    backends = LocalBackends(variants, device, event=lambda kind, detail: events.append((kind, dict(detail))))
    settings = DecodingSettings(NEW_TOKENS)
    for variant in variants:
        backend = backends.of(variant)
        nll = {score.id: score.nll for score in backend.score(work.scored) if score.nll is not None}
        events.clear()
        replies = {reply.id: reply for reply in backend.generate(work.prompts, settings) if isinstance(reply, Reply)}
        slow = [detail for kind, detail in events if kind == EventKind.SLOW_PATH]
        with backends.pool.use(variant) as loaded:
            columns = columns_for(work.prompts, settings)
            by_lengths, obstacle = slot_support(loaded, columns)
            kernel = SlotAttention(loaded.model, columns, loaded.device, by_lengths=by_lengths).reads_own_lengths
        path = "batches of generate"
        if obstacle is None:
            path = f"slots, {'kernel by row lengths' if kernel else 'masks'}"
            if device.startswith("cuda"):
                path += ", no graphs" if any("graphs" in one["engine"] for one in slow) else ", graphs"
        yield variant, nll, replies, {"path": path, "reasons": [one["reason"] for one in slow]}
    backends.close()


def compare(folder: Path, dtype: str, work: Work, device: str) -> list[dict[str, Any]]:
    """Return one row per variant."""
    rows = []
    for variant, nll, replies, path in by_harness(variants_in(folder, dtype), work, device):
        want_nll, want_replies, plain_off = plainly(variant, work, device)
        off = [abs(nll.get(str(i), float("nan")) - want) / want for i, want in enumerate(want_nll)]
        equal = sum(replies[str(i)].tokens == want for i, want in enumerate(want_replies) if str(i) in replies)
        rows.append(
            {
                "variant": variant.name, "dtype": dtype, **path, "dialogues": len(want_nll), "plain_off": plain_off,
                "nll_off": max(off, key=lambda one: (one != one, one)), "replies_equal": equal,
                "reply_tokens": sum(map(len, want_replies)),
            }
        )  # fmt: skip
    return rows


def passed(row: Mapping[str, Any]) -> bool:
    """Return whether a row holds; bf16 is reported only."""
    if "error" in row:
        return False
    close = row["nll_off"] <= max(NLL_WITHIN, row["plain_off"])
    return row["dtype"] != "float32" or (close and row["replies_equal"] == row["dialogues"])


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as Markdown, an architecture's variants in one line; below, why a path is not the fastest."""
    heads = ("architecture", "dtype", "nll differs by", "plain by itself", "equal replies", "path")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    together: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in rows:
        together.setdefault((row["architecture"], row["dtype"]), []).append(row)
    for (architecture, dtype), found in together.items():
        error = next((row["error"] for row in found if "error" in row), None)
        if error is not None:
            lines.append(f"| {architecture} | {dtype} | – | – | – | {error.partition(chr(10))[0]} |")
            continue
        off, plain = (max(row[name] for row in found) for name in ("nll_off", "plain_off"))
        equal = f"{sum(row['replies_equal'] for row in found)} of {sum(row['dialogues'] for row in found)}"
        path = "; ".join(sorted({row["path"] for row in found}))
        lines.append(f"| {architecture} | {dtype} | {off:.1e} | {plain:.1e} | {equal} | {path} |")
    reasons = sorted({reason for row in rows for reason in row.get("reasons", ())})
    return "\n".join([*lines, "", *reasons])


def main(argv: list[str] | None = None) -> int:
    """Run the comparison; return 1 if a row in fp32 differs."""
    parser = argparse.ArgumentParser(
        description="Compare the fast paths with plain transformers on many architectures."
    )
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--size", choices=SIZES, help="default: small on a GPU, tiny on the CPU")
    parser.add_argument("--only", default=",".join(ARCHITECTURES), help="comma-separated names")
    parser.add_argument("--dtypes", default="float32,bfloat16")
    parser.add_argument("--dialogues", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=450.0, help="no further architecture is begun after this")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    started = time.perf_counter()
    size = SIZES[options.size or ("small" if options.device.startswith("cuda") else "tiny")]
    work = dialogues(options.dialogues, size["vocab_size"])
    rows: list[dict[str, Any]] = []
    lost = ""  # why the device cannot be used any more
    result: dict[str, Any] = {**provenance(options.device), "size": size, "rows": rows}
    for dtype in options.dtypes.split(","):
        for name in options.only.split(","):
            if lost or time.perf_counter() - started > options.seconds:
                rows.append({"architecture": name, "dtype": dtype, "error": f"not begun: {lost or 'out of time'}"})
                continue
            try:
                with tempfile.TemporaryDirectory() as folder:
                    write_variants(Path(folder), *ARCHITECTURES[name], size, options.device)
                    rows += [
                        {"architecture": name, **row} for row in compare(Path(folder), dtype, work, options.device)
                    ]
            except Exception as error:  # the next architecture may do
                rows.append({"architecture": name, "dtype": dtype, "error": f"{type(error).__name__}: {error}"[:300]})
                if isinstance(error, torch.AcceleratorError):
                    lost = f"the device was lost by {name} in {dtype}"
            result["seconds"] = time.perf_counter() - started
            write_result(options.out, result)
    print(table(rows))
    return 0 if all(map(passed, rows)) else 1


if __name__ == "__main__":
    sys.exit(main())
