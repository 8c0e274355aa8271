"""What ``harness run`` would measure and what it would take, without loading a model or writing anything.

Times are those of other machines: ``measured_rates.json`` has seconds for a token and a parameter, of which machine,
and where each figure is from. They scale with the number of parameters, whose arithmetic or reading takes the time.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finetune.estimate import MIB, Architecture, Parameters, weight_bytes
from harness.backends.choose import chat_tokenizer
from harness.config import RunConfig
from harness.errors import HarnessError, InputError
from harness.files import read_json
from harness.jobs.prepare import Checked
from harness.passes.plans import encode_dialogue_prompt, encode_reference
from harness.results.memory_fits import CARDS_GB
from harness.store.schema import DialogueRow
from harness.time_left import duration
from harness.variants.artifacts import TensorInfo, check_adapter_folder, check_model_folder
from harness.variants.folders import stated_dtype
from harness.variants.model import Variant
from harness.variants.relations import pairs

SAMPLE = 2000  # dialogues tokenised at most
ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
OF_A_CARD = 0.97  # a card sold as 24 GB never has all of 24 x 10^9 bytes free; as in memory_fits


@dataclass(frozen=True)
class Lengths:
    """Tokens of each dialogue (of a sample, if there are very many): its prompt, and prompt with reference."""

    prompts: tuple[int, ...]
    references: tuple[int, ...]
    context: int | None


def describe(config: RunConfig, checked: Checked, device: str) -> list[str]:
    """Return the lines to print. Raises InputError where the run would, before it measures anything."""
    rows, variants = checked.dialogues.rows, checked.resolved.variants
    counts = checked.dialogues.counts
    lengths = _lengths(rows, variants, config.seed)
    of = f"{counts['loaded']} read as {counts['layout']}" if counts.get("layout") else f"{counts['loaded']} loaded"
    return [
        f"Dialogues: {len(rows):,} of {of}; split {counts['split']}, {counts['leakage']['dropped']} dropped as leaks.",
        *_about_lengths(lengths, config),
        f"Variants, compared with '{checked.reference}':",
        *(f"  {line}" for variant in variants for line in about_variant(variant, device)),
        "Passes:",
        *(f"  {line}" for line in _about_passes(config, variants, len(rows), device)),
        *_about_time(config, lengths, variants, len(rows), device),
        "Nothing was loaded, measured or written.",
    ]


def to_be_made(config: RunConfig) -> list[str]:
    """Return the lines for a run whose recipe has not made its variants yet."""
    from finetune.recipe import load_recipe

    recipe = str(config.finetune)
    load_recipe(recipe)  # refuse what the run would refuse
    return [
        f"Variants: {config.variants} does not exist yet. The recipe '{recipe}' makes it first: it trains an adapter "
        "and merges it.",
        f"What that takes: python -m finetune run {recipe} --dry-run",
        f"Passes: {', '.join(config.passes)}. Dialogues and times can be told once the variants exist.",
        "Nothing was loaded, measured or written.",
    ]


def _lengths(rows: Sequence[DialogueRow], variants: Sequence[Variant], seed: int) -> Lengths:
    tokenizer = chat_tokenizer(variants)
    some = rows if len(rows) <= SAMPLE else random.Random(seed).sample(list(rows), SAMPLE)
    prompts, references = [], []
    for row in some:
        try:
            prompts.append(encode_dialogue_prompt(tokenizer, row)[1])
            if row.reference is not None:
                references.append(len(encode_reference(tokenizer, row)[0]))
        except HarnessError:
            continue  # the run records it as this dialogue's error
    limits = (_settings(variant).get("max_position_embeddings") for variant in variants)
    return Lengths(tuple(prompts), tuple(references), min((int(one) for one in limits if one), default=None))


def _about_lengths(lengths: Lengths, config: RunConfig) -> list[str]:
    reply = config.generation.max_new_tokens
    lines = []
    for what, tokens in (("Prompts", lengths.prompts), ("With the reference", lengths.references)):
        if tokens:
            middle, high = np.percentile(tokens, (50, 95))
            lines.append(f"{what}: {middle:,.0f} tokens in the median, {high:,.0f} at p95, {max(tokens):,} at most.")
    if lengths.context:
        policy = config.dialogues.too_long if config.dialogues else "skip"
        scored = sum(one > lengths.context for one in lengths.references)
        replied = sum(one + reply > lengths.context for one in lengths.prompts)
        lines.append(
            f"Too long for a context of {lengths.context:,} tokens: {scored:,} with the reference (scoring), "
            f"{replied:,} with {reply} new tokens (generation); too_long is '{policy}'."
        )
        if policy == "error" and (scored or replied):
            raise InputError(
                f"{max(scored, replied)} dialogues are too long. Set dialogues.too_long to skip or cut-left, or "
                "shorten the dialogues."
            )
    return lines


def about_variant(variant: Variant, device: str) -> list[str]:
    """Return what a variant is, how large it is when loaded, and on CUDA the smallest card that it fits on."""
    if variant.is_served:
        return [f"{variant.name}: served as '{variant.model}' at {variant.url}, which was not asked"]
    quantized = "" if variant.quantization == "none" else f"{variant.quantization}, "
    size = _weight_bytes(variant)
    each = _cache_bytes(variant)
    line = f"{variant.name}: {variant.kind}, {quantized}{stated_dtype(variant)}, weights about {size / MIB:,.0f} MiB"
    if each is None:
        return [line]
    line += f", cache {each / 1024:,.0f} KiB a token"
    if not device.startswith("cuda"):
        return [line]
    fits = []
    for context in (1024, 4096):
        need = size + each * context + _rates("cuda")["driver_bytes"]
        card = next((one for one in CARDS_GB if need <= OF_A_CARD * one * 1e9), None)
        fits.append(f"{context:,} tokens at batch 1: {f'a card of {card} GB' if card else 'no single card'}")
    return [f"{line}; {'; '.join(fits)} (activations apart)"]


def _about_passes(config: RunConfig, variants: Sequence[Variant], dialogues: int, device: str) -> list[str]:
    lines = []
    for name in config.passes:
        if name in ("scoring", "generation"):
            lines.append(f"{name}: {dialogues:,} dialogues x {len(variants)} variants")
        elif name == "fidelity":
            both = [(one.variant, one.against) for one in pairs(variants, config.fidelity)]
            both += [(one.name, one.same_as) for one in variants if one.same_as is not None]
            compared = ", ".join(f"{one} against {other}" for one, other in both)
            lines.append(f"{name}: {dialogues:,} dialogues, {compared or 'nothing to compare'}")
        elif name == "memory":
            each = config.memory.repeats or (1 if device.startswith("cuda") else 2)
            whose = "each variant" if not any(one.is_served for one in variants) else "each variant that is not served"
            if not all(one.is_served for one in variants):
                lines.append(f"{name}: {each} {'process' if each == 1 else 'processes'} for {whose}")
        elif name == "latency" and config.latency.budget_minutes is not None:
            lines.append(f"{name}: what {config.latency.budget_minutes:g} minutes allow")
        else:
            lines.append(name)
    return lines


def _about_time(
    config: RunConfig, lengths: Lengths, variants: Sequence[Variant], dialogues: int, device: str
) -> list[str]:
    """Say how long the passes would take that read and write, by rates of other machines."""
    rates = _rates(device)
    scale = dialogues / max(1, len(lengths.prompts))
    room = lengths.context or math.inf  # longer ones are skipped
    prompts, references = (
        scale * sum(one for one in tokens if one <= room) for tokens in (lengths.prompts, lengths.references)
    )
    passes, seconds = set(config.passes), 0.0
    compared = pairs(variants, config.fidelity) if "fidelity" in passes else ()
    served = [variant.name for variant in variants if variant.is_served]
    for variant in variants:
        if variant.is_served:
            continue
        parameters = _parameters(variant).total
        # Where a run does both, one reading serves the reference's score and the reply.
        read = references if "scoring" in passes else prompts if "generation" in passes else 0.0
        read += 2 * references * sum(pair.variant == variant.name for pair in compared)
        written = dialogues * config.generation.max_new_tokens if "generation" in passes else 0
        seconds += parameters * (read * rates["read"] + written * rates["written"])
    apart = [name for name in config.passes if name not in ("scoring", "generation", "fidelity")]
    apart += [f"'{name}'" for name in served]
    without = f" {' and '.join(apart)} apart;" if apart else ""
    return [
        f"Time: about {duration(seconds)} if every reply is as long as it may be,{without} by rates measured on "
        f"{rates['hardware']}. Starting, loading, metrics and the page come on top."
    ]


def _rates(device: str) -> dict[str, Any]:
    """Return the measured rates for a kind of device."""
    table = json.loads((Path(__file__).parent / "measured_rates.json").read_text(encoding="utf-8"))
    found: dict[str, Any] = table[device.partition(":")[0]]
    return found


def _settings(variant: Variant) -> dict[str, Any]:
    """Return the configuration of a variant's language model; empty where a served one's tokenizer comes without it."""
    path = Path(variant.tokenizer_folder) / "config.json"
    config = read_json(path) if path.is_file() or not variant.is_served else {}
    inner = config.get("text_config")
    return inner if isinstance(inner, dict) else config


def _parameters(variant: Variant) -> Parameters:
    """Count a variant's parameters from its files' headers; 4-bit loading quantises all matrices but the outer ones."""
    tensors = check_model_folder(variant.model).tensors
    adapter = check_adapter_folder(variant.adapter).tensors if variant.adapter else {}
    inner = {
        name: tensor
        for name, tensor in tensors.items()
        if len(tensor.shape) == 2 and "embed" not in name and not name.startswith("lm_head")
    }
    quantized = _count(inner) if variant.quantization != "none" else 0
    return Parameters(_count(tensors) + _count(adapter), quantized, (), 0)


def _count(tensors: dict[str, TensorInfo]) -> int:
    return sum(math.prod(tensor.shape) for tensor in tensors.values())


def _weight_bytes(variant: Variant) -> int:
    parameters = _parameters(variant)
    if variant.quantization == "nf4":
        return weight_bytes(parameters)
    each = ITEM_BYTES.get(stated_dtype(variant), 4)
    return parameters.quantized + (parameters.total - parameters.quantized) * each  # LLM.int8: one byte each


def _cache_bytes(variant: Variant) -> int | None:
    """Return the bytes of one token's keys and values; None for a model that is not Llama-like."""
    try:
        shape = Architecture.of(_settings(variant))
    except InputError:
        return None
    return 2 * shape.layers * shape.kv_heads * shape.head_size * ITEM_BYTES.get(stated_dtype(variant), 4)
