"""Training: a 4-bit base, LoRA, trl's SFTTrainer, and an adapter folder that is complete or absent."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from finetune.dataset import TrainingSet, refuse_empty, to_columns
from finetune.folders import CURVES, copy_tokenizer, refuse_foreign_files
from finetune.options import lora_config, training_config
from finetune.ranks import ALONE, Ranks, environment
from finetune.recipe import Recipe
from harness.backends.local.device import is_out_of_memory, release_cached_memory, resolve_device
from harness.errors import HarnessError, InputError, first_line
from harness.files import move_into_place, write_text_atomically
from harness.progress import Progress, quiet_loading
from harness.variants.artifacts import ADAPTER_FACTS, check_adapter_folder
from harness.variants.digests import digest_adapter_folder
from harness.variants.nf4 import nf4_config

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback, TrainerState
    from transformers.trainer_utils import TrainOutput
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

Notify = Callable[[str], None]
_KEY_FILE = "key.txt"


@dataclass(frozen=True)
class TrainingJob:
    """Everything a training depends on. ``key`` is its digest and identifies a folder with this training's work."""

    recipe: Recipe
    base: Path
    training: TrainingSet
    validation: TrainingSet
    key: str
    facts: dict[str, Any]  # recorded beside the adapter, with the results of the training


def train_adapter(
    job: TrainingJob, out: Path, *, notify: Notify, progress: Progress, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Train, save the adapter as the folder ``out`` and return the facts recorded beside it.

    An interrupted training continues from its last checkpoint when called with the same job. Raises HarnessError if
    memory runs out, and InputError for unusable options or data.
    """
    refuse_empty(job.training)
    refuse_foreign_files(out)
    work = out.with_name(f".{out.name}.training")
    checkpoint = _prepare(work, job.key, notify)
    ranks.ask(_fit, job, work, checkpoint, ranks.world)
    model, found = _fit(job, work, checkpoint, ranks.world, progress)
    return _save(model, job, work, out, {**found, "resumed": checkpoint is not None})


@dataclass(frozen=True)
class Trained:
    """What is saved of a trained model."""

    model: PreTrainedModel
    weights: dict[str, Any] | None  # the adapter's, collected from all processes if they are shared among them


def _fit(
    job: TrainingJob, work: Path, checkpoint: Path | None, processes: int, progress: Progress | None = None
) -> tuple[Trained, dict[str, Any]]:
    """Train together with the other ``processes``; return what this one has of the model, and facts about it.

    ``progress`` is that of the process that writes the curves; the others have none.
    """
    import torch

    device = resolve_device(job.recipe.device)
    release_cached_memory(device)  # of the training with the seed before
    started = time.monotonic()
    evaluate = bool(job.validation.examples)
    with environment(alone=processes == 1):
        arguments = training_config(
            job.recipe, str(work / "checkpoints"), device=device, evaluate=evaluate, processes=processes
        )
        try:
            trainer = _trainer(job, arguments, work, device, processes, progress)
            if device.startswith("cuda"):
                torch.cuda.reset_peak_memory_stats(device)  # without the peak of loading
            result = trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise HarnessError(_memory_sentence(job.recipe)) from error
    model = cast("PreTrainedModel", trainer.model)
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    found = {
        **_found(trainer.state, result, device),
        "seconds": round(time.monotonic() - started, 1),
        "trainable_parameters": sum(parameter.numel() for parameter in trained.values()),
    }
    if processes > 1:
        found |= {"processes": processes, "parallel": job.recipe.parallel}
    for name, parameter in trained.items():
        if "lora_B" in name:  # what the adapter adds is linear in it
            parameter.data *= job.recipe.adapter_scale
    shared = any(hasattr(parameter, "full_tensor") for parameter in trained.values())
    return Trained(model, {name: whole(one) for name, one in trained.items()} if shared else None), found


def whole(parameter: Any) -> Any:
    """Return a parameter on the CPU, collected from all processes; each of them must call this."""
    return (parameter.full_tensor() if hasattr(parameter, "full_tensor") else parameter).detach().cpu()


def load_base(base: Path, recipe: Recipe, device: str) -> PreTrainedModel:
    """Return the base as trained over, in nf4 if the recipe says so, computing in the recipe's dtype.

    Where several processes share its weights, only the first of each host reads them; ``device`` gets its share later.
    """
    import torch
    from transformers import AutoModelForCausalLM

    options: dict[str, Any] = {"dtype": getattr(torch, recipe.dtype)}
    if recipe.parallel == "fsdp":
        # Where transformers looks; ``environment`` restores them.
        os.environ.update(ACCELERATE_USE_FSDP="true", FSDP_CPU_RAM_EFFICIENT_LOADING="true")
    else:
        options["device_map"] = {"": device}
    if recipe.quantization == "nf4":
        options["quantization_config"] = nf4_config(recipe.dtype)
    with quiet_loading():
        model = AutoModelForCausalLM.from_pretrained(
            str(base), local_files_only=True, trust_remote_code=False, **options
        )
    model.config.use_cache = False
    # Keep bitsandbytes from repacking 4-bit weights at the first evaluation on CPUs with AVX512-BF16. Its kernel for
    # repacked weights has no backward pass: after one evaluation during training, nothing would be learned through any
    # 4-bit layer, and dequantising would give garbage.
    for module in cast("Any", model).modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def _trainer(
    job: TrainingJob, arguments: SFTConfig, work: Path, device: str, processes: int, progress: Progress | None
) -> SFTTrainer:
    from transformers import AutoTokenizer, EarlyStoppingCallback, PrinterCallback, set_seed
    from trl.trainer.sft_trainer import SFTTrainer

    from finetune.checkpoints import CheckpointSeals
    from finetune.curves import TrainingLog

    set_seed(job.recipe.seed)
    callbacks: list[TrainerCallback] = [CheckpointSeals()]
    if progress is not None:
        callbacks.insert(0, TrainingLog(work / CURVES, progress))
    kind, table = SFTTrainer, to_columns(job.training)
    if processes > 1:
        from finetune.shared_trainer import SharedTrainer, with_blank

        kind, table = SharedTrainer, with_blank(table)
    evaluate = arguments.eval_strategy != "no"
    if evaluate and job.recipe.evaluation.patience is not None:
        callbacks.append(EarlyStoppingCallback(early_stopping_patience=job.recipe.evaluation.patience))
    try:
        trainer = kind(
            model=load_base(job.base, job.recipe, device),
            args=arguments,
            train_dataset=table,
            eval_dataset=to_columns(job.validation) if evaluate else None,
            processing_class=AutoTokenizer.from_pretrained(
                str(job.base), local_files_only=True, trust_remote_code=False
            ),
            peft_config=lora_config(job.recipe),
            callbacks=callbacks,
        )
        trainer.remove_callback(PrinterCallback)
        # trl rounds the trained weights to bf16 over a quantised base, which loses small updates; and peft loads
        # checkpoints as float32, so that a resumed training would differ from an uninterrupted one.
        for parameter in cast("PreTrainedModel", trainer.model).parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        return trainer
    except ValueError as error:
        raise InputError(f"The recipe does not fit the base ({first_line(error, 300)}).") from error


def _prepare(work: Path, key: str, notify: Notify) -> Path | None:
    """Create the work folder, or return the last complete checkpoint of the same job in it."""
    from finetune.checkpoints import last_checkpoint

    key_file = work / _KEY_FILE
    if key_file.is_file() and key_file.read_text(encoding="utf-8") == key:
        checkpoint = last_checkpoint(work / "checkpoints")
        if checkpoint is None:
            notify("The unfinished training left no whole checkpoint: starting it again.")
        else:
            notify(f"Continuing the training from step {checkpoint.name.partition('-')[2]}.")
        return checkpoint
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    write_text_atomically(key_file, key)
    return None


def _found(state: TrainerState, result: TrainOutput, device: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "steps": state.global_step,
        "epochs": round(state.epoch or 0.0, 3),
        "final_loss": round(float(result.training_loss), 5),
        "best_eval_loss": state.best_metric,
        "best_step": state.best_global_step if state.best_metric is not None else None,
        "device": device,
    }
    if device.startswith("cuda"):
        import torch

        facts["peak_allocated_mib"] = round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return facts


def _save(trained: Trained, job: TrainingJob, work: Path, out: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Write the adapter and its files to the work folder, check them, and move them into place."""
    from harness.dialogues.leakage import FILE_NAME, fingerprint

    folder = work / "adapter"
    shutil.rmtree(folder, ignore_errors=True)
    trained.model.save_pretrained(str(folder), state_dict=trained.weights)
    (folder / "README.md").unlink(missing_ok=True)  # peft's empty model card
    copy_tokenizer(job.base, folder)
    fingerprint(job.training.dialogues).save(folder / FILE_NAME)
    shutil.copyfile(work / CURVES, folder / CURVES)
    check_adapter_folder(folder)
    digest = digest_adapter_folder(folder)
    facts = {
        **job.facts,
        "key": job.key,
        "adapter_digest": digest,
        "training": {**job.facts.get("training", {}), **found},
    }
    write_text_atomically(folder / ADAPTER_FACTS, json.dumps(facts, indent=1, ensure_ascii=False) + "\n")
    move_into_place(folder, out)
    shutil.rmtree(work, ignore_errors=True)
    return facts


def _memory_sentence(recipe: Recipe) -> str:
    batch = int(recipe.training.get("per_device_train_batch_size", 8))
    steps = int(recipe.training.get("gradient_accumulation_steps", 1))
    advice = []
    if batch > 1:
        half = batch // 2
        advice.append(
            f"--set training.per_device_train_batch_size={half} "
            f"--set training.gradient_accumulation_steps={steps * batch // half} (the same training, half the batch)"
        )
    if recipe.training.get("gradient_checkpointing") is False:
        advice.append("--set training.gradient_checkpointing=true")
    if recipe.quantization == "none":
        advice.append("--set quantization=nf4")
    advice.append(f"--set max_length={recipe.max_length // 2}")
    return f"The training ran out of memory. To reduce it: {'; or '.join(advice)}."
