"""From records to numbers: score the replies, summarise, seal. Needs the folder's files and no model."""

from __future__ import annotations

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


class ScoreConfig(Strict):
    """The part of a run's config that needs no model, and that ``harness score --set`` may change."""

    metrics: tuple[str, ...] | None = None
    metric_options: MetricOptions = MetricOptions()
    reasoning: Reasoning = REASONING
    stats: StatsConfig = StatsConfig()
    seed: int = Field(42, ge=0)
    columns: ReplyColumns | None = Field(None, description="keys of the reply files; absent: recognised")


def compute(folder: RunFolder, config: RunConfig | ScoreConfig, progress: Progress) -> None:
    """Score the replies, compute the summary and seal the folder, using only its files and no model."""
    from harness.metrics.loading import all_specs, load_metrics
    from harness.metrics.text.words import for_texts
    from harness.results.memory_fits import memory_table
    from harness.results.replies_scored import UNFINISHED, score_replies, unfinished_warnings
    from harness.results.several_references import how_of, sign
    from harness.results.summarize import summarize
    from harness.store.seals import is_measured, numbers_digest, seal

    manifest = folder.read_manifest()
    names = [str(variant["name"]) for variant in manifest.variants]
    progress.note("Scoring the replies and computing the statistics.")
    options = for_texts(config.metric_options, (row.reference or "" for row in folder.each_dialogue()))
    metrics = load_metrics(config.metrics, options)
    replies = score_replies(folder, metrics, progress, how=how_of(manifest), reasoning=config.reasoning)
    unfinished = unfinished_warnings(replies)
    for warning in unfinished:
        progress.note(f"Warning: {warning}")
    write_json(folder.memory_path, memory_table(folder, names))
    specs = sign(all_specs(options), folder.each_dialogue(), how_of(manifest))
    summary = summarize(
        folder, registry=specs, resamples=config.stats.resamples, seed=config.seed, slices=config.stats.slices
    )
    if digest_bytes(model_bytes(summary)) != numbers_digest(folder):
        remove_outdated(folder)
        write_model(folder.summary_path, summary)
    inputs = {name: digest for name, digest in manifest.digests.items() if not is_measured(name)}
    derived = {
        "metrics": config.metrics,
        "metric_options": config.metric_options.model_dump(mode="json"),
        "stats": config.stats.model_dump(mode="json"),
        "reasoning": config.reasoning,
    }
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
