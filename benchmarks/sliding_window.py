"""How fast contexts longer than a sliding window are generated: slots against batches of ``generate``.

Random weights in Gemma-3-4B's geometry (window 1,024; every sixth layer sees everything), bf16, 256 dialogues with
prompts of 1,100–1,800 tokens and at most 128 new ones; the head's EOS row is scaled so that replies end after about 64
steps. ``generate`` with its dynamic cache is what such contexts were given before; its batches wait for their longest
reply. Both run in one go, through the same fused layers. Then 64 full rows are decoded, as a share of the time in which
the measured bandwidth reads the weights and what each layer sees of the cache.

    python -m benchmarks.sliding_window --out FILE
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections import Counter, deque
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from benchmarks.peers.machine import provenance, write_result
from benchmarks.peers.random_models import END, scale_end, tokenizer_of
from harness.backends.base import DecodingSettings, Reply, ReplyRequest
from harness.backends.local import replies as engine
from harness.backends.local.batches import columns_for, decoding_rows, longest_first
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.device import release_cached_memory, synchronize
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.limits import footprint, measure_limits
from harness.backends.local.pool import LoadedModel
from harness.variants.model import Variant

ROWS = 64  # of the roofline
SHAPES: dict[str, dict[str, Any]] = {
    "4b": {
        "vocab_size": 262_208, "hidden_size": 2560, "intermediate_size": 10_240, "num_hidden_layers": 34,
        "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "sliding_window": 1024,
        "query_pre_attn_scalar": 256, "max_position_embeddings": 8192,
    },
    "tiny": {
        "vocab_size": 512, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32, "sliding_window": 64,
        "query_pre_attn_scalar": 32, "max_position_embeddings": 512,
    },
}  # fmt: skip
WORKLOADS = {"4b": (256, 1100, 1800, 128), "tiny": (24, 70, 110, 16)}  # dialogues, prompt lengths, new tokens


def load(shape: str, device: str) -> tuple[LoadedModel, dict[str, float]]:
    """Return a random model, and how its EOS row was scaled."""
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    # An output layer of its own: scaling EOS in a tied one would change the prompts too. It is as large.
    config = Gemma3TextConfig(
        **SHAPES[shape], tie_word_embeddings=False, bos_token_id=1, eos_token_id=END, pad_token_id=END, dtype=dtype
    )
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: Any = Gemma3ForCausalLM(config).eval().requires_grad_(False)
    finally:
        torch.set_default_dtype(torch.float32)
    tokenizer: Any = tokenizer_of(config.vocab_size)
    scale, steps = scale_end(model, tokenizer, device)
    variant = Variant(name="base", kind="base", model="base", dtype=str(dtype).removeprefix("torch."))
    return LoadedModel(variant, model, tokenizer, device, 0.0), {"eos_scale": scale, "steps_to_end": steps}


def prompts(shape: str) -> list[ReplyRequest]:
    """Return random prompts of the workload's lengths, the same every time."""
    count, shortest, longest, _ = WORKLOADS[shape]
    pick = random.Random(1)
    words = SHAPES[shape]["vocab_size"]
    lengths = [pick.randint(shortest, longest) for _ in range(count)]
    return [
        ReplyRequest(str(i), (1, *(pick.randrange(3, words) for _ in range(length - 1))))
        for i, length in enumerate(lengths)
    ]


def timed(loaded: LoadedModel, requests: list[ReplyRequest], settings: DecodingSettings, *, slots: bool) -> Any:
    """Return the replies by one of the two paths, and what it took."""
    events: list[dict[str, Any]] = []
    columns = columns_for(requests, settings)
    release_cached_memory(loaded.device)
    synchronize(loaded.device)
    started = time.perf_counter()

    def note(kind: Any, detail: Any) -> None:
        events.append({"event": str(kind.value), **detail})

    with FusedLayers(loaded.model, loaded.device).installed():
        if slots:
            made = engine.generate_replies(loaded, requests, settings, event=note)
        else:
            made = engine.with_generate(loaded, deque(longest_first(requests)), settings, columns, None, note)
        replies = {reply.id: reply for reply in made if isinstance(reply, Reply)}
    synchronize(loaded.device)
    seconds = time.perf_counter() - started
    tokens = sum(len(reply.tokens) for reply in replies.values())
    finish = Counter(str(reply.error or reply.finish) for reply in replies.values())
    what = {"seconds": seconds, "tokens": tokens, "tokens_per_second": tokens / seconds, "finish": finish}
    return replies, {**what, "events": events}


def against_roofline(loaded: LoadedModel, requests: list[ReplyRequest]) -> dict[str, Any]:
    """Return the median time of steps from the middle of replies of fixed length, and the floor at the same lengths."""
    limits = measure_limits(loaded.device)
    chosen = longest_first(requests[:ROWS])
    settings = DecodingSettings(96, fixed_length=True)
    columns = columns_for(chosen, settings)
    chosen = chosen[: decoding_rows(loaded.model, loaded.device, columns)]
    by_lengths, obstacle = engine.slot_support(loaded, columns)
    cuda = loaded.device.startswith("cuda")
    reasons: list[str] = [obstacle] if obstacle else []
    with FusedLayers(loaded.model, loaded.device).installed():
        decoder = SlotDecoder(
            loaded, settings, rows=len(chosen), columns=columns, graphs=cuda, by_lengths=by_lengths,
            without_graphs=reasons.append,
        )  # fmt: skip
        replies = [reply for reply in decoder.run(deque(chosen)) if isinstance(reply, Reply)]
        decoder.free()
    # The rows take their steps together, but for the first, which follows each row's own prompt.
    step = statistics.median((later - sooner) / 1e9 for sooner, later in pairwise(replies[0].stamps_ns[24:73]))
    sizes = footprint(loaded.model)
    cache = sum(sizes.cache_read(len(request) + 48) for request in chosen)
    floor = (sizes.streamed + cache) / limits.bandwidth_bytes_s
    return {
        "rows": len(chosen),
        "attention": "kernel reads row lengths" if by_lengths else "masks",
        "graphs": decoder.graphs is not None,
        "obstacles": reasons,
        "bandwidth_gb_s": limits.bandwidth_bytes_s / 1e9,
        "weights_gb": sizes.streamed / 1e9,
        "cache_read_gb": cache / 1e9,
        "step_ms": 1e3 * step,
        "floor_ms": 1e3 * floor,
        "of_roofline": floor / step,
        "tokens_per_second": len(chosen) / step,
    }


def report(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    slots, fallback, decode = result.get("slots"), result.get("generate"), result.get("decode")
    lines = ["| | seconds | tokens | tokens/s |", "|---|---|---|---|"]
    for name, row in (("slots", slots), ("batches of `generate`", fallback)):
        if row:
            lines.append(f"| {name} | {row['seconds']:.1f} | {row['tokens']:,} | {row['tokens_per_second']:,.0f} |")
    if "times_faster" in result:
        lines.append(f"\nSlots are {result['times_faster']:.1f} times as fast.")
    if decode:
        lines.append(
            f"\n{decode['rows']} rows: {decode['step_ms']:.2f} ms a step, floor {decode['floor_ms']:.2f} ms, "
            f"{decode['of_roofline']:.0%} of the roofline ({decode['attention']}, graphs: {decode['graphs']})."
        )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> None:
    """Time the parts that were asked for, and write what they took."""
    parser = argparse.ArgumentParser(description="Time contexts longer than a sliding window.")
    parser.add_argument("--device", default="cuda:0" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--shape", choices=SHAPES, help="default: 4b on a GPU, tiny on the CPU")
    parser.add_argument("--parts", default="decode,slots,generate")
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args(argv)
    shape = options.shape or ("4b" if options.device.startswith("cuda") else "tiny")
    parts = options.parts.split(",")
    loaded, scaled = load(shape, options.device)
    requests = prompts(shape)
    settings = DecodingSettings(WORKLOADS[shape][3])
    result: dict[str, Any] = {**provenance(options.device), "shape": SHAPES[shape], **scaled}
    if "decode" in parts:
        result["decode"] = against_roofline(loaded, requests)
        write_result(options.out, result)
    # Kernels are compiled and libraries loaded at first use; one row of each kind does it for both.
    warm = DecodingSettings(8)
    replies: dict[str, dict[str, Reply]] = {}
    for name in ("slots", "generate"):
        if name in parts:
            timed(loaded, requests[:8], warm, slots=name == "slots")
            replies[name], result[name] = timed(loaded, requests, settings, slots=name == "slots")
            write_result(options.out, result)
    if len(replies) == 2:
        result["times_faster"] = result["generate"]["seconds"] / result["slots"]["seconds"]
        ours, theirs = replies["slots"], replies["generate"]
        result["replies_equal"] = sum(ours[name].tokens == theirs[name].tokens for name in ours)
        write_result(options.out, result)
    print(report(result))


if __name__ == "__main__":
    main()
