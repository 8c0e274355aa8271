"""The options that a recipe passes through to peft and trl, checked against what these libraries know.

A misspelt option is refused with the nearest known one before anything slow begins; so is one that would break what
this project promises (that a dialogue is never cut, that the end of a reply is learned, that nothing is uploaded).
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from finetune.recipe import Recipe
from harness.errors import InputError, did_you_mean, first_line

if TYPE_CHECKING:
    from peft import LoraConfig
    from trl.trainer.sft_config import SFTConfig

# Set by the recipe's other keys, or by what a training here is; the reason is shown.
_RESERVED_TRAINING = {
    "output_dir": "use --out",
    **dict.fromkeys(("seed", "data_seed"), "use the recipe's 'seed'"),
    "max_length": "use the recipe's 'max_length'",
    "truncation_mode": "dialogues that are too long are skipped, never cut",
    **dict.fromkeys(("packing", "padding_free"), "each dialogue is trained on as it is measured, alone"),
    **dict.fromkeys(("completion_only_loss", "assistant_only_loss"), "only the doctor's reply is learned"),
    **dict.fromkeys(("dataset_kwargs", "dataset_text_field"), "dialogues are tokenized as in measuring"),
    "chat_template_path": "use the recipe's 'prompt'",
    "model_init_kwargs": "use the recipe's 'dtype' and 'quantization'",
    "eos_token": "the tokenizer's own is learned, and measured with",
    "pad_token": "padding is never learned, whichever token it is",
    "use_cpu": "use the recipe's 'device'",
    **dict.fromkeys(("bf16", "fp16"), "use the recipe's 'dtype'"),
    **dict.fromkeys(("push_to_hub", "hub_model_id", "hub_token"), "nothing is uploaded"),
    "resume_from_checkpoint": "an unfinished training continues by itself",
    **dict.fromkeys(
        ("load_best_model_at_end", "eval_strategy", "eval_steps", "save_strategy", "save_steps"),
        "use the recipe's 'evaluation'",
    ),
}
_RESERVED_LORA = {
    "task_type": "it is a causal language model's",
    "inference_mode": "it is a training",
    "base_model_name_or_path": "use the recipe's 'base'",
}
# These start from another base than the one on disk, which would then be the wrong one to measure the adapter over.
CHANGES_THE_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


def lora_config(recipe: Recipe) -> LoraConfig:
    """Return peft's ``LoraConfig`` for a recipe; raise InputError for an option that it does not know or take."""
    from peft import LoraConfig

    _check(recipe.lora, LoraConfig, _RESERVED_LORA, "lora")
    start = str(recipe.lora.get("init_lora_weights", "")).lower()
    if start.startswith(CHANGES_THE_BASE):
        raise InputError(
            f"lora.init_lora_weights: '{start}' changes the base's own weights, so that adapter and base would no "
            "longer fit; use true, gaussian or orthogonal."
        )
    options = {"target_modules": "all-linear", **recipe.lora, "task_type": "CAUSAL_LM"}
    try:
        return LoraConfig(**options)
    except (TypeError, ValueError) as error:
        raise InputError(f"lora: peft refuses these options ({first_line(error)}).") from error


def training_config(recipe: Recipe, output_dir: str, *, device: str, evaluate: bool) -> SFTConfig:
    """Return trl's ``SFTConfig`` for a recipe; raise InputError for an option that it does not know or take."""
    import torch
    from trl.trainer.sft_config import SFTConfig

    _check(recipe.training, SFTConfig, _RESERVED_TRAINING, "training")
    options: dict[str, Any] = {
        "per_device_eval_batch_size": recipe.training.get("per_device_train_batch_size", 8),
        "report_to": "none",
        "disable_tqdm": True,  # progress is drawn by whoever called
        "dataloader_pin_memory": device != "cpu",
        "save_total_limit": 2,  # the best and the last
        "restore_callback_states_from_checkpoint": True,  # early stopping's patience goes on where it was
        "include_num_input_tokens_seen": "non_padding",
        **recipe.training,
        "output_dir": output_dir,
        "seed": recipe.seed,
        "max_length": None,  # what is too long was left out before
        "completion_only_loss": True,
        "use_cpu": device == "cpu",
        "bf16": recipe.dtype == "bfloat16",
        "fp16": recipe.dtype == "float16",
        **_evaluation_options(recipe, evaluate),
    }
    try:
        config = SFTConfig(**options)
    except (TypeError, ValueError, ImportError) as error:
        raise InputError(f"training: trl refuses these options ({first_line(error)}).") from error
    if torch.cuda.device_count() > 1:  # one model on one device; trl refuses torch's DataParallel
        _ = config.device
        config._n_gpu = 1
    return config


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
