"""The text of a model card: results, what was not measured, how it was trained and how it was measured."""

from __future__ import annotations

import yaml

from harness.export.figures import ExportedRun
from harness.store.schema import pass_names
from reports.text import summary_markdown
from reports.view import read_view

_NEVER = (
    "Whether the replies are medically correct: no clinician has judged them. Overlap with a reference and rules over "
    "words are no substitute.",
    "Abilities outside these dialogues, which fine-tuning may have cost.",
    "Other data and other prompts.",
)


def card_text(run: ExportedRun, variant: str) -> str:
    """Return the card's Markdown below its metadata."""
    facts, manifest = run.variants[variant], run.manifest
    what = "LoRA adapter" if facts.get("kind") == "adapter" else "model with its LoRA adapter merged into it"
    parts = [
        f"# {variant}",
        f"A {what} for medical dialogue, measured on held-out dialogues with medical-dialogue-harness. It is a "
        "research artifact, not a medical device: its replies must not be given to patients unchecked.",
        "## Results",
        summary_markdown(run.folder, view=read_view(run.folder, about=variant), steps=False).strip(),
        "## Not measured",
        "\n".join(f"- {sentence}" for sentence in (*_left_out(run, variant), *_NEVER)),
        "## How it was measured",
        _yaml(
            {
                "dialogues": {"source": run.data_source(), **_plain(manifest.held_out)},
                "prompt": manifest.template,
                "generation": manifest.config.get("generation"),
                "quantization": facts.get("quantization"),
                "dtype": facts.get("dtype"),
                "device": manifest.provenance.get("device"),
                "versions": manifest.provenance.get("versions"),
            }
        ),
    ]
    recipe = manifest.training.get("recipe")
    if isinstance(recipe, dict):
        kept = {
            key: recipe[key]
            for key in ("base", "dialogues", "quantization", "dtype", "lora", "training", "seed")
            if key in recipe
        }
        drawn = {"seed": facts["seed"]} if "seed" in facts else {}  # the recipe has that of the first of several
        parts += ["## How it was trained", _yaml({**kept, **drawn})]
    return "\n\n".join(parts) + "\n"


def _left_out(run: ExportedRun, variant: str) -> list[str]:
    """Return a sentence about training seeds, and one for each pass that measured nothing of the variant."""
    covered = run.summary.coverage.get(variant)
    failed = dict(covered.not_measured) if covered else {}
    asked = run.manifest.config.get("passes")
    absent = [name for name in pass_names() if isinstance(asked, list | tuple) and name not in asked]
    several = any(variant in recipe.seeds for recipe in run.summary.recipes)
    return [
        f"{'More' if several else 'Other'} seeds of the training.",
        *(f"{name.capitalize()}: not part of this run." for name in absent),
        *(f"{name.capitalize()}: {why}" for name, why in failed.items()),
    ]


def _plain(values: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in values.items() if value not in (None, {}, [])}


def _yaml(values: dict[str, object]) -> str:
    return f"```yaml\n{yaml.safe_dump(_plain(values), sort_keys=False, allow_unicode=True)}```"
