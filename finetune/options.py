"""The options that a recipe passes on to peft and trl, checked against those libraries.

A misspelt option is rejected with a suggestion before anything slow begins; so is one that would break a guarantee of
this project (dialogues are never truncated, the end of a reply is learned, nothing is uploaded).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from finetune.ranks import environment
from finetune.recipe import Recipe
from harness.errors import InputError, did_you_mean, first_line

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig

# Set by other keys of the recipe, or fixed for training here; the reason is shown.
_RESERVED_TRAINING = {
    "output_dir": "use --out",
    **dict.fromkeys(("seed", "data_seed"), "use the recipe's 'seed'"),
    "max_length": "use the recipe's 'max_length'",
    "truncation_mode": "dialogues that are too long are skipped, never truncated",
    **dict.fromkeys(("packing", "padding_free"), "each dialogue is trained on alone, as it is measured"),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss"), "only the doctor's reply is learned"),
    **dict.fromkeys(("dataset_kwargs", "dataset_text_field"), "dialogues are tokenized as for measuring"),
    "chat_template_path": "use the recipe's 'prompt'",
    "model_init_kwargs": "use the recipe's 'dtype' and 'quantization'",
    "eos_token": "the tokenizer's own is used for training and measuring",
    "pad_token": "padding is never learned, whatever its token",
    "use_cpu": "use the recipe's 'device'",
    **dict.fromkeys(("fsdp", "fsdp_config", "deepspeed"), "use the recipe's 'parallel'"),
    **dict.fromkeys(("bf16", "fp16"), "use the recipe's 'dtype'"),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_token"), "nothing is uploaded"),
    "resume_from_checkpoint": "an unfinished training resumes automatically",
    **dict.fromkeys(
        ("load_best_model_at_end", "eval_strategy", "eval_steps", "save_strategy", "save_steps"),
        "use the recipe's 'evaluation'",
    ),
}
_RESERVED_LORA = {
    "task_type": "it is always a causal language model",
    "inference_mode": "it is always training",
    "base_model_name_or_path": "use the recipe's 'base'",
}
# These change the base, so the one on disk would be the wrong one to measure the adapter over.
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def lora_config(recipe: Recipe) -> LoraConfig:
    """Return peft's ``LoraConfig`` for a recipe; raise InputError for an unknown or invalid option."""
    from peft import LoraConfig

    _check(recipe.lora, LoraConfig, _RESERVED_LORA, "lora")
    start = str(recipe.lora.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGES_THE_BASE):
        raise InputError(
            f"lora.init_lora_weights: '{start}' changes the base's weights, so that adapter and base would no longer "
            "match; use true, gaussian or orthogonal."
        )
    options = {"target_modules": "all-linear", **recipe.lora, "task_type": "CAUSAL_LM"}
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"lora: peft rejects these options ({first_line(error)}).") from error


def training_config(recipe: Recipe, output_dir: str, *, device: str, evaluate: bool, processes: int = 1) -> SFTConfig:
    """Return trl's ``SFTConfig`` for a recipe and for each of the ``processes`` that share its batches.

    Raises InputError for an unknown or invalid option.
    """
    import torch
    from trl.trainer.sft_config import SFTConfig

    _check(recipe.training, SFTConfig, _RESERVED_TRAINING, "training")
    options: dict[str, Any] = {
        "per_device_eval_batch_size": recipe.training.get("per_device_train_batch_size", 8),
        "report_to": "none",
        "disable_tqdm": True,  # the caller shows progress
        "dataloader_pin_memory": device != "cpu",
        "save_total_limit": 2,  # the best and the last
        "restore_callback_states_from_checkpoint": True,  # early stopping keeps its count
        "include_num_input_tokens_seen": "non_padding",
        **recipe.training,
        "output_dir": output_dir,
        "seed": recipe.seed,
        "max_length": None,  # long dialogues were skipped before
        "completion_only_loss": True,
        "use_cpu": device == "cpu",
        "bf16": recipe.dtype == "bfloat16",
        "fp16": recipe.dtype == "float16",
        **_evaluation_options(recipe, evaluate),
        **_shared(recipe, device, processes),
    }
    try:
        with environment(alone=processes == 1):
            config = SFTConfig(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"training: trl rejects these options ({first_line(error)}).") from error
    if config.fsdp_plugin_args is not None and recipe.dtype != "float32":
        from torch.distributed.fsdp import MixedPrecisionPolicy

        # accelerate's own would round losses and summed gradients to the half precision of the weights.
        policy = MixedPrecisionPolicy(param_dtype=getattr(torch, recipe.dtype), reduce_dtype=torch.float32)
        config.fsdp_plugin_args["mixed_precision_policy"] = policy
    if torch.cuda.device_count() > 1:  # one model on one device; trl rejects torch's DataParallel
        _ = config.device
        config._n_gpu = 1
    return config


def _shared(recipe: Recipe, device: str, processes: int) -> dict[str, object]:
    """Return what differs where several processes share the batches that one would accumulate."""
    if processes == 1:
        if recipe.parallel == "fsdp":
            raise InputError(
                "parallel: fsdp shares the weights among several processes, but there is one. Start them with "
                "torchrun --nproc-per-node N -m finetune run, or set parallel: ddp."
            )
        return {}
    if recipe.training.get("train_sampling_strategy", "random") != "random":
        raise InputError("training.train_sampling_strategy: with several processes, dialogues are drawn at random.")
    batch = int(recipe.training.get("per_device_train_batch_size", 8))
    accumulated = int(recipe.training.get("gradient_accumulation_steps", 1))
    if accumulated % processes:
        effective = batch * accumulated
        same = (
            f": {processes} and per_device_train_batch_size: {effective // processes} are the same training"
            if effective % processes == 0
            else ""
        )
        raise InputError(
            f"training.gradient_accumulation_steps: {processes} processes cannot share {accumulated} batches a step. "
            f"Set a multiple of {processes}{same}."
        )
    options: dict[str, object] = {"gradient_accumulation_steps": accumulated // processes}
    if recipe.parallel == "fsdp":
        if device == "cpu":
            raise InputError("parallel: fsdp needs GPUs. Set parallel: ddp to train on CPUs.")
        options |= {"fsdp": True, "fsdp_config": {"version": 2, "cpu_ram_efficient_loading": True}}
    return options


def _evaluation_options(recipe: Recipe, evaluate: bool) -> dict[str, object]:
    interval = recipe.evaluation.interval
    steps = int(interval) if interval >= 1 else interval
    options: dict[str, object] = {"save_strategy": "steps", "save_steps": steps, "eval_strategy": "no"}
    if evaluate:
        options |= {
            "eval_strategy": "steps",
            "eval_steps": steps,
            "load_best_model_at_end": True,
            "metric_for_best_model": "eval_loss",
            "greater_is_better": False,
        }
    return options


def _check(
    given: dict[str, Any], config_class: type[LoraConfig | SFTConfig], reserved: dict[str, str], where: str
) -> None:
    known = {field.name for field in dataclasses.fields(config_class) if field.init}
    for key in given:
        if key in reserved:
            raise InputError(f"{where}.{key} cannot be set here: {reserved[key]}.")
        if key not in known:
            library = config_class.__module__.partition(".")[0]
            raise InputError(
                f"{where}: {library}'s {config_class.__name__} has no option '{key}'."
                f"{did_you_mean(key, known - set(reserved))}"
            )
