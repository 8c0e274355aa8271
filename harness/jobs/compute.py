"""From records to numbers: score the replies, summarise, seal. Needs the folder's files and no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

from harness.config import RunConfig, StatsConfig
from harness.dialogues.reply_text import REASONING, Reasoning
from harness.files import digest_bytes, model_bytes, write_json, write_model
from harness.jobs.guard import remove_outdated
from harness.jobs.reply_shapes import ReplyColumns
from harness.metrics.registry import MetricOptions
from harness.progress import Progress
from harness.store.folder import RunFolder
from harness.store.provenance import now
from harness.yamlfile import Strict

if TYPE_CHECKING:
    from harness.metrics.metric_set import MetricSet
    from harness.results.scored_ahead import ScoredAhead


class ScoreConfig(Strict):
    """The part of a run's config that needs no model, and that ``harness score --set`` may change."""

    metrics: tuple[str, ...] | None = None
    metric_options: MetricOptions = MetricOptions()
    reasoning: Reasoning = REASONING
    stats: StatsConfig = StatsConfig()
    seed: int = Field(42, ge=0)
    same_as: dict[str, str] = Field(
        default_factory=dict, description="of replies from files: the system that one claims to be, by its name"
    )
    columns: ReplyColumns | None = Field(None, description="keys of the reply files; absent: recognised")


def metrics_of(folder: RunFolder, config: RunConfig | ScoreConfig) -> MetricSet:
    """Return the metrics that score the folder's replies, with what they take from the references' script."""
    from harness.metrics.loading import load_metrics
    from harness.metrics.text.words import for_texts

    options = for_texts(config.metric_options, (row.reference or "" for row in folder.each_dialogue()))
    return load_metrics(config.metrics, options)


def compute(
    folder: RunFolder, config: RunConfig | ScoreConfig, progress: Progress, *, ahead: ScoredAhead | None = None
) -> None:
    """Score the replies, compute the summary and seal the folder, using only its files and no model.

    ``ahead`` has scored some of them already.
    """
    from harness.metrics.loading import all_specs
    from harness.results.memory_fits import memory_table
    from harness.results.replies_scored import UNFINISHED, score_replies, unfinished_warnings
    from harness.results.several_references import how_of, sign
    from harness.results.summarize import summarize
    from harness.store.seals import is_measured, numbers_digest, seal

    manifest = folder.read_manifest()
    names = [str(variant["name"]) for variant in manifest.variants]
    progress.note("Scoring the replies and computing the statistics.")
    metrics = metrics_of(folder, config)
    replies = score_replies(
        folder,
        metrics,
        progress,
        how=how_of(manifest),
        reasoning=config.reasoning,
        known=ahead.known() if ahead else None,
    )
    unfinished = unfinished_warnings(replies)
    for warning in unfinished:
        progress.note(f"Warning: {warning}")
    write_json(folder.memory_path, memory_table(folder, names))
    specs = sign(all_specs(metrics.options), folder.each_dialogue(), how_of(manifest))
    summary = summarize(
        folder, registry=specs, resamples=config.stats.resamples, seed=config.seed, slices=config.stats.slices
    )
    if digest_bytes(model_bytes(summary)) != numbers_digest(folder):
        remove_outdated(folder)
        write_model(folder.summary_path, summary)
    inputs = {name: digest for name, digest in manifest.digests.items() if not is_measured(name)}
    derived: dict[str, Any] = {
        "metrics": config.metrics,
        "metric_options": config.metric_options.model_dump(mode="json"),
        "stats": config.stats.model_dump(mode="json"),
        "reasoning": config.reasoning,
    }
    if isinstance(config, RunConfig):
        derived |= {"price_per_gpu_hour": config.price_per_gpu_hour, "currency": config.currency}
    folder.write_manifest(
        manifest.model_copy(
            update={
                "state": "complete",
                "error": None,
                "finished": now(),
                "warnings": (*(one for one in manifest.warnings if UNFINISHED not in one), *unfinished),
                "config": {**manifest.config, **derived},
                "digests": {**inputs, **seal(folder)},
            }
        )
    )
