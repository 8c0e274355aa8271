"""What a recipe would train, on how many tokens and with how much memory, without training."""

from __future__ import annotations

import contextlib
import math
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune.dataset import TOO_LONG, refuse_empty
from finetune.estimate import MIB, Architecture, LoraModule, MemoryEstimate, Parameters, Workload, estimate_memory
from finetune.recipe import Recipe
from harness.errors import InputError, first_line
from harness.files import read_json

if TYPE_CHECKING:
    from trl.trainer.sft_config import SFTConfig

    from finetune.pipeline import Prepared


@dataclass(frozen=True)
class DryRun:
    """What ``--dry-run`` prints. ``memory`` is None for models and dtypes that cannot be estimated.

    ``out`` is the folder of a real run, from which adapters are reused.
    """

    prepared: Prepared
    out: Path
    parameters: Parameters
    steps: int
    memory: MemoryEstimate | None
    workload: Workload
    without_checkpointing: MemoryEstimate | None


def dry_run(recipe: str | Path, overrides: Sequence[str] = (), out: Path | None = None) -> DryRun:
    """Return what would be trained, without keeping any files. Raises InputError as a real run would."""
    from finetune.pipeline import resolve

    settled, folder = resolve(recipe, out, overrides)
    with tempfile.TemporaryDirectory() as scratch:
        return _examine(settled, Path(scratch), folder)


def describe(found: DryRun, seeds: int = 1) -> list[str]:
    """Return the lines to print; ``seeds``: how many adapters there are to be, some of which may be trained already."""
    from finetune.pipeline import untrained

    training = found.prepared.training
    total, trainable = found.parameters.total, found.parameters.trainable
    skipped = training.skipped.get(TOO_LONG, 0)
    count = len(training.lengths)
    lines = [
        f"Parameters: {total:,} in the base, {trainable:,} trained ({trainable / (total + trainable):.3%}).",
        f"Training: {len(training.examples):,} of {count:,} dialogues, {training.tokens:,} tokens per "
        f"epoch, {statistics.median(training.lengths):.0f} tokens in the median dialogue, {found.steps:,} steps.",
        f"Too long for {found.prepared.max_length:,} tokens: {skipped:,} of {count:,} dialogues "
        f"({skipped / count if count else 0:.1%}); they are skipped.",
        f"Held-out loss on {len(found.prepared.validation.examples):,} dialogues.",
    ]
    trainings = [replace(found.prepared, out=found.out).with_seed(number) for number in range(seeds)]
    left = untrained(trainings)
    names = {each.name for each in left}
    if reused := [each for each in trainings if each.name not in names]:
        lines.append(f"Made before from the same inputs, and reused: {_named(reused)}.")
    if seeds > 1 and left:
        adapters = "1 adapter" if len(left) == 1 else f"{len(left)} adapters, one after another"
        lines.append(f"{adapters}, {len(left) * found.steps:,} steps in all: {_named(left)}.")
    if found.memory is None:
        return [*lines, "Peak GPU memory: estimated only for Llama architectures trained in bfloat16 or float16."]
    parts = found.memory.mib()
    words = ", ".join(f"{name.replace('_', ' ')} {parts[name]:,.0f}" for name in list(parts)[:5])
    lines.append(
        f"Peak GPU memory: about {found.memory.peak / MIB:,.0f} MiB ({words}) at batch {found.workload.batch} of "
        f"{found.workload.tokens:,} tokens; without the CUDA context."
    )
    if found.without_checkpointing is not None:
        lines.append(f"Without gradient checkpointing: about {found.without_checkpointing.peak / MIB:,.0f} MiB.")
    return lines


def _named(trainings: Sequence[Prepared]) -> str:
    return ", ".join(f"{each.name} (seed {each.recipe.seed})" for each in trainings)


def _examine(recipe: Recipe, scratch: Path, out: Path) -> DryRun:
    from finetune.options import training_config
    from finetune.pipeline import prepare
    from harness.backends.local.device import resolve_device

    prepared = prepare(recipe, scratch)
    refuse_empty(prepared.training)
    config = read_json(prepared.base / "config.json")
    arguments = training_config(recipe, str(scratch), device=resolve_device(recipe.device), evaluate=False)
    parameters = count_parameters(prepared.base, recipe)
    workload = Workload(
        batch=arguments.per_device_train_batch_size,
        tokens=max(len(example.input_ids) for example in prepared.training.examples),
        dropout=bool(recipe.lora.get("lora_dropout", 0.0)),
        checkpointing=bool(arguments.gradient_checkpointing),
        optimizer=getattr(arguments.optim, "value", str(arguments.optim)),
    )
    memory = without = None
    with contextlib.suppress(InputError):  # another architecture, for which there is no estimate
        architecture = Architecture.of(config)
        if recipe.dtype != "float32":
            memory = estimate_memory(architecture, parameters, workload)
            if workload.checkpointing:
                without = estimate_memory(architecture, parameters, replace(workload, checkpointing=False))
    steps = _steps(arguments, len(prepared.training.examples))
    return DryRun(prepared, out, parameters, steps, memory, workload, without)


def count_parameters(base: Path, recipe: Recipe) -> Parameters:
    """Count parameters on a model without weights to which peft itself adds LoRA, by its own rules."""
    import torch
    from peft import get_peft_model
    from peft.tuners.lora import LoraLayer

    from finetune.options import lora_config
    from harness.backends.local.loading import skeleton
    from harness.variants.nf4 import linear_modules

    model: Any = skeleton(str(base))
    with torch.device("meta"):
        total: int = sum(parameter.numel() for parameter in model.parameters())
        held = linear_modules(model) if recipe.quantization == "nf4" else ()
        quantized = sum(model.get_parameter(f"{name}.weight").numel() for name in held)
        configuration = lora_config(recipe)
        try:
            adapted = get_peft_model(model, configuration)
        except ValueError as error:
            raise InputError(f"The recipe does not fit the base ({first_line(error, 300)}).") from error
    rank = configuration.r or 0
    layers: list[tuple[str, Any]] = [pair for pair in adapted.named_modules() if isinstance(pair[1], LoraLayer)]
    lora = [
        LoraModule(name.removeprefix("base_model.model."), int(layer.in_features), int(layer.out_features))
        for name, layer in layers
    ]
    plain = Parameters(total, quantized, tuple(lora), int(rank))
    trained = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    return replace(plain, beside_lora=trained - plain.trainable)


def _steps(arguments: SFTConfig, examples: int) -> int:
    if arguments.max_steps > 0:
        return int(arguments.max_steps)
    batches = -(-examples // int(arguments.per_device_train_batch_size))
    updates = max(1, -(-batches // int(arguments.gradient_accumulation_steps)))
    return math.ceil(updates * float(arguments.num_train_epochs))
