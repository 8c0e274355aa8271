"""A recipe: everything that decides what a fine-tuning makes, validated before anything slow begins.

What peft and trl offer is not repeated here: ``lora`` and ``training`` are passed on to ``LoraConfig`` and
``SFTConfig`` and checked against them (``finetune.options``). No torch in this module.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from harness.dialogues.model import DialogueSource
from harness.variants.model import MergeStrategy
from harness.yamlfile import Strict, find, load

TINY = "tiny"
SYNTHETIC = "synthetic"
DEFAULT_RECIPE = "quickstart"


class RecipeDialogues(DialogueSource):
    """Where the dialogues come from. ``synthetic``: the project's own, written for it."""

    source: str = SYNTHETIC


class Evaluation(Strict):
    """Held-out loss while training, on the validation split; the best checkpoint is the one that is kept.

    ``interval``: steps between evaluations, or a share of all steps below 1. ``patience``: stop after this many
    evaluations without a better loss. ``dialogues``: at most this many are used.
    """

    interval: float = Field(0.1, gt=0)
    patience: int | None = Field(None, ge=1)
    dialogues: int = Field(200, ge=0)

    @field_validator("interval")
    @classmethod
    def _steps_are_whole(cls, interval: float) -> float:
        if interval >= 1 and interval != int(interval):
            raise ValueError("interval is a whole number of steps, or a share of all steps below 1")
        return interval


class Recipe(Strict):
    """One fine-tuning: base → train → merge. ``merge`` absent: dequantized after 4-bit training, else original."""

    base: str = Field(description="a folder, a hub id, or 'tiny': the one that comes with the project")
    dialogues: RecipeDialogues = RecipeDialogues()
    prompt: str = "know-medical"
    quantization: Literal["none", "nf4"] = "nf4"
    dtype: Literal["float32", "bfloat16", "float16"] = "bfloat16"
    lora: dict[str, Any] = Field(default_factory=dict)
    training: dict[str, Any] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()
    adapter_scale: float = Field(
        1.0, gt=0.0, description="the trained LoRA is multiplied by this; below 1 it is spoiled on purpose"
    )
    max_length: int = Field(1024, ge=8, description="longer dialogues are skipped and counted, never cut")
    merge: MergeStrategy | None = None
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    seed: int = Field(42, ge=0)

    @model_validator(mode="after")
    def _dequantized_needs_quantisation(self) -> Recipe:
        if self.quantization == "none" and self.merge in ("dequantized", "in-place-4bit"):
            raise ValueError(f"merge: '{self.merge}' needs 'quantization: nf4'")
        return self

    @property
    def merge_strategy(self) -> MergeStrategy:
        return self.merge or ("dequantized" if self.quantization == "nf4" else "original")


def load_recipe(name_or_path: str | Path = DEFAULT_RECIPE, overrides: Sequence[str] = ()) -> Recipe:
    """Return a shipped recipe or the one in a YAML file, with ``key=value`` overrides (``training.max_steps=10``).

    A relative path to dialogues or a base that stands beside the recipe file is found there. Raises InputError.
    """
    path = find(name_or_path, Path(__file__).parent / "recipes", "recipe")
    return _beside(load(Recipe, path, overrides), path.parent)


def _beside(recipe: Recipe, folder: Path) -> Recipe:
    """Find relative paths from the working folder or, failing that, from the recipe's own."""
    changes: dict[str, Any] = {}
    source = recipe.dialogues.source
    if source != SYNTHETIC and not Path(source).exists() and (folder / source).is_file():
        changes["dialogues"] = recipe.dialogues.model_copy(update={"source": str(folder / source)})
    if recipe.base != TINY and not Path(recipe.base).exists() and (folder / recipe.base).is_dir():
        changes["base"] = str(folder / recipe.base)
    return recipe.model_copy(update=changes)
