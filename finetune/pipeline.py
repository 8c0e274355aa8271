"""base → train → merge → variants.json. Results already made from the same inputs are reused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from finetune.dataset import TrainingSet, encode_dialogues
from finetune.folders import locked
from finetune.listing import MERGED, variants_file
from finetune.ranks import ALONE, Ranks, joined
from finetune.recipe import DEFAULT_RECIPE, SYNTHETIC, TINY, Recipe, load_recipe
from harness.dialogues.load import LoadedDialogues, load_source
from harness.dialogues.model import Dialogue
from harness.dialogues.prompts import Template, load_template
from harness.dialogues.split import dialogue_hash, select
from harness.errors import HarnessError, InputError
from harness.files import digest_value
from harness.machine import library_versions
from harness.progress import Progress, SilentProgress
from harness.variants.artifacts import adapter_facts, check_adapter_folder, check_model_folder, resolve_model
from harness.variants.digests import digest_adapter_folder, digest_model_folder
from harness.variants.merge_report import MergeReport, read_merge_report
from harness.variants.model import VariantsFile, write_variants

Made = TypeVar("Made")
Notify = Callable[[str], None]
ShowProgress = Callable[[], AbstractContextManager[Progress]]
VARIANTS_FILE = "variants.json"
BASE, ADAPTER, DIALOGUES = "base", "adapter", "dialogues.jsonl"
# Increase when the same inputs would give another result, so that old folders are not reused.
_FORMAT = 1
# What changes no adapter, and what the key has the content of.
_KEYED_OTHERWISE = {"merge", "device", "parallel", "base", "dialogues", "chat_template"}
_VERSIONS = ("torch", "transformers", "peft", "trl", "bitsandbytes", "accelerate", "datasets", "tokenizers")


def silent(message: str) -> None:
    """Discard the message."""


def no_progress() -> AbstractContextManager[Progress]:
    """Show no progress."""
    return nullcontext(SilentProgress())


@dataclass(frozen=True)
class Prepared:
    """Everything a training needs, already checked. The adapter, and its folder in ``out``, is called ``name``."""

    recipe: Recipe
    out: Path
    base: Path
    base_digest: str
    source: str  # where the dialogues were read from
    loaded: LoadedDialogues
    template: Template
    template_digest: str
    training: TrainingSet
    validation: TrainingSet
    max_length: int
    name: str = ADAPTER

    @cached_property
    def key(self) -> str:
        """The digest of everything that the adapter depends on."""
        return self._digest(_KEYED_OTHERWISE)

    @cached_property
    def recipe_digest(self) -> str:
        """The digest of all that but the seed: trainings that have it in common differ in their luck alone."""
        return self._digest({*_KEYED_OTHERWISE, "seed"})

    def with_seed(self, number: int) -> Prepared:
        """Return the same training with the seed that is ``number`` after the recipe's; only that of 0 is ADAPTER."""
        if number == 0:
            return self
        seed = self.recipe.seed + number
        return replace(self, recipe=self.recipe.model_copy(update={"seed": seed}), name=f"{ADAPTER}-seed{seed}")

    def _digest(self, excluded: set[str]) -> str:
        return digest_value(
            {
                "format": _FORMAT,
                "recipe": self.recipe.model_dump(mode="json", exclude=excluded),
                "base": self.base_digest,
                "template": self.template_digest,
                "training": [example.input_ids for example in self.training.examples],
                "validation": [example.input_ids for example in self.validation.examples],
            }
        )


def run(
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    seeds: int | None = None,
    notify: Notify = silent,
    progress: ShowProgress = no_progress,
    together: bool = False,
) -> VariantsFile:
    """Make base, adapter and merged model from a recipe and write ``variants.json`` to ``out``; return its content.

    ``seeds``: how many adapters to train, with the recipe's seed and those that follow; the first is merged. None: one,
    and further ones stay listed that were trained before. ``together``: with the other processes that a launcher
    started, which must call this too.
    """
    chosen, folder = resolve(recipe, out, overrides)

    def make(ranks: Ranks) -> VariantsFile:
        prepared = prepare(chosen, folder, notify=notify, processes=ranks.world)
        with locked(folder):
            trained: list[tuple[Prepared, dict[str, Any]]] = []
            trainings = trainings_of(prepared, seeds)
            for each in trainings:
                if len(trainings) > 1:
                    notify(f"Seed {each.recipe.seed}, {len(trained) + 1} of {len(trainings)}: {each.name}.")
                trained.append((each, ensure_adapter(each, notify=notify, progress=progress, ranks=ranks)))
            report = ensure_merged(prepared, notify=notify)
            made = variants_file(trained, report)
            write_variants(made, folder / VARIANTS_FILE)
        notify(f"Wrote {folder / VARIANTS_FILE}: {', '.join(variant.name for variant in made.variants)}.")
        return made

    return _led(make, chosen, together)


def train(
    recipe: str | Path | Recipe = DEFAULT_RECIPE,
    out: str | Path | None = None,
    overrides: Sequence[str] = (),
    *,
    notify: Notify = silent,
    progress: ShowProgress = no_progress,
    together: bool = False,
) -> Path:
    """Make the base (if the recipe builds one) and the adapter only; return the adapter's folder.

    ``together`` is as for ``run``.
    """
    chosen, folder = resolve(recipe, out, overrides)

    def make(ranks: Ranks) -> Path:
        prepared = prepare(chosen, folder, notify=notify, processes=ranks.world)
        with locked(folder):
            ensure_adapter(prepared, notify=notify, progress=progress, ranks=ranks)
        return folder / ADAPTER

    return _led(make, chosen, together)


def _led(make: Callable[[Ranks], Made], recipe: Recipe, together: bool) -> Made:
    if not together:
        return make(ALONE)
    with joined(recipe.device) as ranks:
        return ranks.lead(lambda: make(ranks))


def prepare(recipe: Recipe, out: Path, *, notify: Notify = silent, processes: int = 1) -> Prepared:
    """Check every input and encode the dialogues without training. Raises InputError for unusable input."""
    from finetune.options import lora_config, training_config
    from harness.backends.local.device import resolve_device
    from harness.backends.local.loading import load_tokenizer

    lora_config(recipe)
    device = resolve_device(recipe.device)
    training_config(recipe, str(out), device=device, evaluate=False, processes=processes)
    template = load_template(recipe.prompt, recipe.chat_template)
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file; give a folder to write to.")
    if recipe.base != TINY:
        check_model_folder(resolve_model(recipe.base))  # before anything is written
    source, loaded = _dialogues(recipe, out)
    for note in loaded.notes:
        notify(note)
    base = _base(recipe, out, notify)
    model = check_model_folder(base)
    if model.config.get("quantization_config"):
        raise InputError(f"{base} is quantised; give the unquantised base, which is quantised on loading.")
    context = model.config.get("max_position_embeddings")
    max_length = min(recipe.max_length, int(context)) if context else recipe.max_length
    tokenizer = load_tokenizer(str(base))
    salt = recipe.dialogues.salt

    def encode(dialogues: Sequence[Dialogue]) -> TrainingSet:
        return encode_dialogues(dialogues, template, tokenizer, max_length, on_invalid=recipe.dialogues.on_invalid)

    training = encode(select(loaded.dialogues, "train", salt))
    if training.unmatched:
        notify(
            f"Warning: the chat template ends a prompt with {training.unmatched!r}, which whole conversations lack, so "
            "the model learns replies to other prompts than it is asked with. Set chat_template or another prompt."
        )
    # Ordered by hash, because the first dialogues of a file often share a source.
    held_out = sorted(select(loaded.dialogues, "validation", salt), key=dialogue_hash)
    validation = encode(held_out).first(recipe.evaluation.dialogues)
    return Prepared(
        recipe=recipe,
        out=out,
        base=base,
        base_digest=digest_model_folder(base),
        source=source,
        loaded=loaded,
        template=template,
        template_digest=template.digest_with(tokenizer),
        training=training,
        validation=validation,
        max_length=max_length,
    )


def ensure_adapter(
    prepared: Prepared, *, notify: Notify, progress: ShowProgress, ranks: Ranks = ALONE
) -> dict[str, Any]:
    """Train the adapter unless the same one exists; return the facts recorded beside it."""
    from finetune.training import TrainingJob, train_adapter

    recipe, folder = prepared.recipe, prepared.out / prepared.name
    if facts := _trained(prepared):
        notify(f"The adapter in {folder} was made from the same inputs; reusing it.")
        return facts
    counts = prepared.training
    skipped = "".join(f"; {count} skipped: {reason}" for reason, count in counts.skipped.items())
    notify(
        f"Training on {len(counts.examples)} dialogues ({counts.tokens} tokens per epoch{skipped}); "
        f"held-out loss on {len(prepared.validation.examples)}."
    )
    job = TrainingJob(recipe, prepared.base, prepared.training, prepared.validation, prepared.key, _recorded(prepared))
    with progress() as shown:
        facts = train_adapter(job, folder, notify=notify, progress=shown, ranks=ranks)
    found = facts["training"]
    notify(f"Trained {found['steps']} steps in {found['seconds']:.0f} s; loss {found['final_loss']:.3f}.")
    return facts


def ensure_merged(prepared: Prepared, *, notify: Notify) -> MergeReport:
    """Merge the adapter unless the same merge exists; return its report."""
    from finetune.merging import MergeOptions, merge_adapter

    recipe, folder, adapter = prepared.recipe, prepared.out / MERGED, prepared.out / prepared.name
    report = read_merge_report(folder)
    if (
        report is not None
        and (report.base_digest, report.adapter_digest) == (prepared.base_digest, digest_adapter_folder(adapter))
        and (report.strategy, report.dtype) == (recipe.merge_strategy, recipe.dtype)
        and report.logits_difference is not None  # versions before 0.2.0 did not check
        and report.model_digest == digest_model_folder(folder)
    ):
        notify(f"The merged model in {folder} was made from the same adapter; reusing it.")
        return report
    options = MergeOptions(
        strategy=recipe.merge_strategy, device=recipe.device, quantization=recipe.quantization, dtype=recipe.dtype
    )
    report = merge_adapter(str(prepared.base), adapter, folder, options)
    notify(describe_merge(report))
    return report


def describe_merge(report: MergeReport) -> str:
    """Describe what a merge kept, and whether it assumed what the adapter was trained over."""
    worst = report.worst_layers[0]
    assumption = (
        " There is no record of what the adapter was trained over: an unquantised base was assumed. If it was 4-bit, "
        "merge again with --quantization nf4."
    )
    return (
        f"Merged {report.layers} weights ({report.strategy}) in {report.seconds:.0f} s: ΔW is "
        f"{report.delta_to_weight:.2%} of the weights, {report.mean_kept:.1%} of it was kept; the error is "
        f"{report.mean_relative_error:.1%} of ΔW on average, {worst.relative_error:.1%} at worst ({worst.name}). "
        f"Logits differ from the adapter's by {report.logits_difference:.2%}; the adapter itself changes them by "
        f"{report.adapter_effect:.2%}."
        f"{assumption if report.quantization_assumed else ''}"
    )


def resolve(recipe: str | Path | Recipe, out: str | Path | None, overrides: Sequence[str]) -> tuple[Recipe, Path]:
    """Return the recipe and the folder that it writes to; raise InputError for an unusable recipe."""
    if isinstance(recipe, Recipe):
        if out is None or overrides:
            raise InputError("With a Recipe object, give the folder to write to and no overrides.")
        return recipe, Path(out)
    return load_recipe(recipe, overrides), Path("runs") / Path(recipe).stem if out is None else Path(out)


def _dialogues(recipe: Recipe, out: Path) -> tuple[str, LoadedDialogues]:
    settings = recipe.dialogues
    source = settings.source
    if source == SYNTHETIC:
        from finetune.synthetic import write_dialogues

        path = out / DIALOGUES
        partial = path.with_name(f".{path.name}.partial")
        out.mkdir(parents=True, exist_ok=True)
        write_dialogues(partial, seed=recipe.seed)
        partial.replace(path)
        source = str(path)
    return source, load_source(settings, source)


def _base(recipe: Recipe, out: Path, notify: Notify) -> Path:
    if recipe.base != TINY:
        return resolve_model(recipe.base)
    from finetune.tiny import place_tiny_base

    placed = place_tiny_base(out / BASE)
    notify(f"The base is the embedded Llama of {placed.parameters / 1e6:.1f} M parameters in {placed.path}.")
    return placed.path


def _recorded(prepared: Prepared) -> dict[str, Any]:
    recipe = prepared.recipe
    return {
        "schema": 1,
        "base": recipe.base,
        "base_digest": prepared.base_digest,
        "quantization": recipe.quantization,
        "dtype": recipe.dtype,
        "template": prepared.template.name,
        "template_digest": prepared.template_digest,
        "recipe": recipe.model_dump(mode="json", exclude_none=True),
        "recipe_digest": prepared.recipe_digest,
        "seed": recipe.seed,
        "versions": library_versions(_VERSIONS),
        "training": {
            "dialogues": len(prepared.training.examples),
            "skipped": prepared.training.skipped,
            "invalid": prepared.loaded.invalid,
            "tokens_per_epoch": prepared.training.tokens,
            "validation_dialogues": len(prepared.validation.examples),
        },
    }


def trainings_of(prepared: Prepared, wanted: int | None) -> list[Prepared]:
    """Return the recipe's trainings: as many as wanted or, for None, the first and those that were made before."""
    if wanted is None:
        wanted = next(number for number in count(1) if not _trained(prepared.with_seed(number)))
    return [prepared.with_seed(number) for number in range(wanted)]


def untrained(trainings: Sequence[Prepared]) -> list[Prepared]:
    """Return those of the trainings that were not made before from the same inputs."""
    return [each for each in trainings if not _trained(each)]


def _trained(prepared: Prepared) -> dict[str, Any]:
    """Return the facts beside the adapter if it was made from the same inputs; empty if not, or if there is none."""
    folder = prepared.out / prepared.name
    facts = adapter_facts(folder)
    if not facts or facts.get("key") != prepared.key or facts.get("adapter_digest") != _digest_or_none(folder):
        return {}
    return facts


def _digest_or_none(adapter: Path) -> str | None:
    try:
        check_adapter_folder(adapter)
        return digest_adapter_folder(adapter)
    except HarnessError:
        return None
