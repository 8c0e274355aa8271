"""What the machine could do at best, and how near the engine comes: bandwidth, matrix products, agreement."""

from __future__ import annotations

import statistics
import time
from collections import deque
from itertools import pairwise
from typing import Any

import torch

from benchmarks.peers.kernel_times import decoding_kernels, scoring_kernels
from harness.backends.base import DecodingSettings, Reply, ReplyRequest, ScoringRequest
from harness.backends.local.batches import (
    batches,
    columns_for,
    decoding_rows,
    kv_bytes_per_token,
    longest_first,
    scoring_tokens,
)
from harness.backends.local.decoding import SlotDecoder
from harness.backends.local.device import synchronize
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.pool import LoadedModel
from harness.backends.local.replies import generate_replies
from harness.backends.local.scoring import CausalForward, negative_log_likelihoods
from harness.passes.plans import encode_dialogue_prompt, encode_reference
from harness.store.schema import DialogueRow


def measured_limits(device: str) -> dict[str, float]:
    """Return bytes a second (read plus written, a large copy) and FLOP/s (a large matrix product)."""
    cuda = device.startswith("cuda")
    dtype = torch.bfloat16 if cuda else torch.float32
    source = torch.randn(2**31 if cuda else 2**24, device=device, dtype=dtype)
    target = torch.empty_like(source)
    copy = _median_seconds(lambda: target.copy_(source), device)
    size = 8192 if cuda else 512
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    product = _median_seconds(lambda: a @ b, device)
    moved = 2 * source.numel() * source.element_size()
    return {"bytes_per_second": moved / copy, "flops_per_second": 2 * size**3 / product}


def _median_seconds(work: Any, device: str, repeats: int = 9) -> float:
    times = []
    for turn in range(repeats + 3):
        synchronize(device)
        started = time.perf_counter()
        work()
        synchronize(device)
        if turn >= 3:
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def decode_against_roofline(
    loaded: LoadedModel, dialogues: tuple[DialogueRow, ...], rows: int, limits: dict[str, float], graphs: bool
) -> dict[str, Any]:
    """Return step time at ``rows`` full rows, and the floor: weights and each row's keys and values read once.

    Steps are taken from the middle of replies of fixed length; embeddings are looked up and not streamed.
    """
    requests = longest_first(prompts(loaded, dialogues[:rows]))
    settings = DecodingSettings(128, fixed_length=True)
    columns = columns_for(requests, settings)
    requests = requests[: decoding_rows(loaded.model, loaded.device, columns)]
    decoder = SlotDecoder(loaded, settings, rows=len(requests), columns=columns, graphs=graphs, by_lengths=graphs)
    replies = list(decoder.run(deque(requests)))
    stamps = replies[0].stamps_ns
    gaps = [(b - a) / 1e9 for a, b in pairwise(stamps[32:97])]
    model = loaded.model
    weights = model.get_memory_footprint() - model.get_input_embeddings().weight.nbytes
    cached = sum(len(request) + 64 for request in requests) * kv_bytes_per_token(model)
    floor = (weights + cached) / limits["bytes_per_second"]
    step = statistics.median(gaps)
    return {
        "rows": len(requests),
        "attention": "row lengths" if decoder._attention.reads_own_lengths else "mask",
        "graphs": decoder.graphs is not None,
        "capture_seconds": decoder.profile.capture_seconds,
        "step_ms": 1e3 * step,
        "floor_ms": 1e3 * floor,
        "of_roofline": floor / step,
        "tokens_per_second": len(requests) / step,
    }


def generation_profile(loaded: LoadedModel, dialogues: tuple[DialogueRow, ...], graphs: bool) -> dict[str, Any]:
    """Return where the time of replies of natural length goes: prompts, captures, steps, and rows that idle."""
    requests = longest_first(prompts(loaded, dialogues))
    settings = DecodingSettings(128)
    columns = columns_for(requests, settings)
    rows = min(len(requests), decoding_rows(loaded.model, loaded.device, columns))
    started = time.perf_counter()
    decoder = SlotDecoder(loaded, settings, rows=rows, columns=columns, graphs=graphs, by_lengths=graphs)
    for _ in decoder.run(deque(requests)):
        pass
    seconds = time.perf_counter() - started
    profile = decoder.profile
    capture = profile.capture_seconds
    return {
        "seconds": seconds,
        "rows": rows,
        "prefill_seconds": profile.prefill_seconds,
        "prompt_tokens": profile.prompt_tokens,
        "capture_seconds": capture,
        "step_seconds": profile.step_seconds - capture,
        "other_seconds": seconds - profile.prefill_seconds - profile.step_seconds,
        "steps": profile.steps,
        "tokens": profile.tokens,
        "rows_in_use": profile.tokens / max(1, profile.rows_computed),
        "tokens_per_second": profile.tokens / seconds,
    }


def scoring_utilisation(
    loaded: LoadedModel, dialogues: tuple[DialogueRow, ...], limits: dict[str, float]
) -> dict[str, Any]:
    """Return model FLOPs (of real tokens: no padding, no logits but the reference's) over the measured product."""
    requests = references(loaded, dialogues)
    model = loaded.model
    forward = CausalForward(model)
    work = list(batches(longest_first(requests), scoring_tokens(model, loaded.device)))
    negative_log_likelihoods(forward, work[-1], loaded.device)
    started = time.perf_counter()
    for batch in work:
        negative_log_likelihoods(forward, batch, loaded.device)
    seconds = time.perf_counter() - started
    head = model.get_output_embeddings().weight.numel()
    body = sum(p.numel() for p in model.parameters()) - head - model.get_input_embeddings().weight.numel()
    config = model.config
    width = config.num_attention_heads * (config.hidden_size // config.num_attention_heads)
    flops = 0.0
    for request in requests:
        read = len(request) - 1
        flops += 2 * body * read + 2 * head * len(request.reference)
        flops += 2 * config.num_hidden_layers * width * read * read  # scores and sums, half of them masked
    return {
        "seconds": seconds,
        "tokens": sum(len(request) for request in requests),
        "flops_per_second": flops / seconds,
        "mfu": flops / seconds / limits["flops_per_second"],
    }


@torch.inference_mode()
def agreement_with_eager(loaded: LoadedModel, dialogues: tuple[DialogueRow, ...], length: int) -> dict[str, Any]:
    """Return how many fast replies equal ``generate`` at batch 1, and how near a tie the others parted.

    At the first token that differs both candidates' logits are read off one forward over the common beginning; two
    logits within a few units in the last place of the dtype are a tie that rounding decides.
    """
    requests = prompts(loaded, dialogues)
    fast: dict[str, Reply] = {}
    with FusedLayers(loaded.model, loaded.device).installed():
        for reply in generate_replies(loaded, requests, DecodingSettings(length)):
            fast[reply.id] = reply
    equal, same_tokens, tokens, gaps = 0, 0, 0, []
    for request in requests:
        prompt = torch.tensor([request.ids], device=loaded.device)
        made = loaded.model.generate(
            prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=length, do_sample=False
        )[0, len(request) :].tolist()
        end = loaded.model.config.eos_token_id
        plain = made[: made.index(end)] if end in made else made
        mine = [*fast[request.id].tokens, end]
        plain = [*plain, end]
        part = next((i for i, (a, b) in enumerate(zip(mine, plain, strict=False)) if a != b), None)
        tokens += len(plain)
        same_tokens += len(plain) if part is None else part
        equal += part is None
        if part is not None:
            ids = torch.tensor([[*request.ids, *plain[:part]]], device=loaded.device)
            logits = loaded.model(input_ids=ids, logits_to_keep=1).logits[0, -1].float()
            scale = logits.abs().max().item() * torch.finfo(loaded.model.dtype).eps
            gaps.append(abs(logits[mine[part]] - logits[plain[part]]).item() / scale)
    return {
        "dialogues": len(requests),
        "identical": equal,
        "tokens_before_the_first_difference": same_tokens / tokens,
        "gap_at_difference_in_units_of_last_place": sorted(gaps),
    }


def kernel_profile(loaded: LoadedModel, dialogues: tuple[DialogueRow, ...], graphs: bool) -> dict[str, Any]:
    """Return which kernels a decoding step and a scoring batch spend their time in."""
    return {
        "decoding_step": decoding_kernels(loaded, prompts(loaded, dialogues), graphs),
        "scoring_batch": scoring_kernels(loaded, references(loaded, dialogues)),
    }


def prompts(loaded: LoadedModel, dialogues: tuple[DialogueRow, ...]) -> list[ReplyRequest]:
    """Return the dialogues' prompts as the generation pass gives them to the engine."""
    return [ReplyRequest(row.id, tuple(encode_dialogue_prompt(loaded.tokenizer, row)[0])) for row in dialogues]


def references(loaded: LoadedModel, dialogues: tuple[DialogueRow, ...]) -> list[ScoringRequest]:
    """Return prompts and references as the scoring pass gives them to the engine."""
    encoded = [encode_reference(loaded.tokenizer, row) for row in dialogues]
    return [ScoringRequest(row.id, tuple(ids), start) for row, (ids, start) in zip(dialogues, encoded, strict=True)]
