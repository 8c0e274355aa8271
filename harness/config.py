"""A run's configuration: validated, frozen, and identical whether it came from YAML, ``--set`` or Python."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, field_validator, model_validator

from harness.dialogues.model import DialogueConfig
from harness.dialogues.reply_text import REASONING, Reasoning
from harness.errors import did_you_mean
from harness.metrics.registry import MetricOptions
from harness.store.schema import pass_names
from harness.variants.model import Variant, refuse_duplicate_names
from harness.variants.relations import FidelityPair
from harness.yamlfile import Strict


class GenerationConfig(Strict):
    """How replies are generated. Decoding is greedy unless a temperature is set."""

    max_new_tokens: int = Field(256, ge=1, le=1_000_000)
    stop: tuple[str, ...] = ()
    temperature: float = Field(0.0, ge=0.0)
    top_p: float = Field(1.0, gt=0.0, le=1.0)


class LatencyConfig(Strict):
    """Workloads of the latency pass; see ``passes/latency``.

    Without a budget, ``prompts``, ``repeats`` and ``batches`` are what is timed. With one, ``prompts`` and ``batches``
    come first, once each; from their spread follows how many more are needed for the precision.
    """

    model_config = ConfigDict(populate_by_name=True)

    budget_minutes: float | None = Field(
        5.0, gt=0.0, allow_inf_nan=False, description="for all variants and engines together; null: no limit"
    )
    precision: float = Field(
        0.02, gt=0.0, lt=1.0, description="half-width of the 95 % interval of the log ratio of two variants"
    )
    prompts: int = Field(16, ge=1, description="how many held-out prompts are timed at batch 1")
    reply_tokens: int = Field(128, ge=2, description="fixed reply length (min = max)")
    repeats: int = Field(3, ge=1, description="of each prompt and batch where there is no budget")
    warmup: int = Field(1, ge=0)
    engine: Literal["auto", "eager", "compiled", "both"] = Field("auto", description="auto: both on CUDA, else eager")
    compile: Literal["auto", "graph"] = Field(
        "auto", description="compiled engine: both are CUDA graphs of fused layers"
    )
    batch_sizes: tuple[int, ...] | None = Field(None, description="sweep; absent: 1, 4, 16, 64 on CUDA, 1, 4 on CPU")
    batches: int = Field(
        6, ge=1, description="batches per size, and prompts per length; six are enough for an interval"
    )
    prompt_lengths: tuple[int, ...] | None = Field(None, description="TTFT by prompt length; absent: by the context")
    natural: bool = True
    concurrency: tuple[Annotated[int, Field(ge=1)], ...] = Field(
        (1, 4, 16), min_length=1, description="of served variants: how many requests are under way at once"
    )
    imported: tuple[str, ...] = Field(
        (), alias="import", description="results of guidellm, aiperf or vllm bench serve, shown as theirs"
    )
    ttft_budget_ms: float | None = None
    tpot_budget_ms: float | None = None

    @field_validator("imported", mode="before")
    @classmethod
    def _one_file_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @field_validator("compile", mode="before")
    @classmethod
    def _reject_inductor(cls, value: object) -> object:
        if value == "inductor":
            raise ValueError("inductor was removed; use graph")
        return value


class MemoryConfig(Strict):
    """The fixed workload that each variant runs in a new process."""

    batch: int = Field(1, ge=1)
    prompt_tokens: int = Field(128, ge=1)
    reply_tokens: int = Field(32, ge=1)
    repeats: int | None = Field(
        None, ge=1, description="absent: 2 on the CPU; 1 on CUDA, where peaks repeat to the byte, if its parts add up"
    )


class StatsConfig(Strict):
    """How intervals are computed."""

    resamples: int = Field(10_000, ge=100)
    slices: tuple[str, ...] = ()  # columns of the data


class RunConfig(Strict):
    """One run: what is measured, on which dialogues, and how."""

    variants: str | tuple[Variant, ...]
    dialogues: DialogueConfig | None = None
    prompt: str = "know-medical"
    chat_template: dict[str, JsonValue] = Field(
        default_factory=dict, description="arguments of the tokenizer's chat template, for the prompt 'chat'"
    )
    reference_variant: str | None = None
    generation: GenerationConfig = GenerationConfig()
    reasoning: Reasoning = Field(REASONING, description="marks around reasoning, which is not part of a reply")
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$")
    placement: Literal["single", "auto"] = Field("single", description="auto: layers are spread over all GPUs")
    threads: int | None = Field(None, ge=1)
    passes: tuple[str, ...] = Field(default_factory=pass_names)
    metrics: tuple[str, ...] | None = Field(None, description="families or names; absent: every default metric")
    metric_options: MetricOptions = MetricOptions()
    latency: LatencyConfig = LatencyConfig()
    memory: MemoryConfig = MemoryConfig()
    fidelity: tuple[FidelityPair, ...] | None = Field(None, description="absent: adapter/merged and base/base-nf4")
    stats: StatsConfig = StatsConfig()
    batch_tokens: int | None = Field(None, ge=1, description="maximum tokens per batch; absent: from free memory")
    allow_base_mismatch: bool = False
    price_per_gpu_hour: float | None = Field(
        None, gt=0.0, allow_inf_nan=False, description="of the device in use; the page then says what replies cost"
    )
    currency: str = Field("USD", min_length=1, max_length=8)
    seed: int = Field(42, ge=0)
    limit: int | None = Field(None, ge=1)
    finetune: str | None = Field(None, description="recipe that creates the variants first if they are missing")

    @field_validator("passes")
    @classmethod
    def _in_canonical_order(cls, passes: tuple[str, ...]) -> tuple[str, ...]:
        known = pass_names()
        for name in passes:
            if name not in known:
                raise ValueError(
                    f"unknown pass '{name}'; the passes are {', '.join(known)}.{did_you_mean(name, known)}"
                )
        return tuple(name for name in known if name in passes)

    @model_validator(mode="after")
    def _names_are_unique(self) -> RunConfig:
        if not isinstance(self.variants, str):
            refuse_duplicate_names(self.variants)
        return self
