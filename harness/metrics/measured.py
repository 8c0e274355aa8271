"""The metrics that passes measure themselves, with their names and meanings: likelihood, fidelity, latency, memory.

nll is −log p of the reference's tokens given the prompt, in nats per token. Its corpus value is Σ nll / Σ tokens, so
long references weigh more than short ones, and perplexity is its exponential. Fidelity shows whether merging preserved
what the adapter learned, by comparing merged with adapter. The values are computed in ``harness.results``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from harness.metrics.registry import Item, MetricSpec, Scores
from harness.stats.samples import ratio_of_sums
from harness.stats.types import FloatArray

SIGNATURE = "log:natural|eos:not scored|tokens:ids[len(tok(prompt.rstrip())):]|special:the tokenizer's own"
SEES = "How probable the variant finds the doctor's own reply, token by token."
LARGEST_EXPONENT = 700.0  # exp of a larger number is not finite


def exponential_ratio(sums: FloatArray) -> FloatArray:
    """Return e to the ratio of summed statistics; infinite on overflow, without a warning."""
    with np.errstate(over="ignore"):
        return np.asarray(np.exp(ratio_of_sums(sums)), dtype=np.float64)


def bits_ratio(sums: FloatArray) -> FloatArray:
    """Return the ratio of nats to bytes in bits per byte."""
    return np.asarray(ratio_of_sums(sums) / np.log(2), dtype=np.float64)


NLL = MetricSpec(
    name="quality.nll",
    unit="nats/token",
    higher_is_better=False,
    aggregation="corpus",
    signature=f"nll|{SIGNATURE}",
    label="nll",
    scale="0 or more",
    sees=SEES,
    blind_to="What the variant would say itself. Not comparable between tokenizers.",
    statistics=("nll", "tokens"),
    combine=ratio_of_sums,
)


class Likelihood:
    """nll, perplexity and bits per byte of the reference; None if it was not scored."""

    specs: tuple[MetricSpec, ...] = (
        NLL,
        replace(
            NLL,
            name="quality.perplexity",
            unit="",
            signature=f"perplexity=exp(nll)|{SIGNATURE}",
            label="Perplexity",
            scale="1 or more",
            sees=f"{SEES} The exponential of nll.",
            combine=exponential_ratio,
        ),
        replace(
            NLL,
            name="quality.bits_per_byte",
            unit="bits/byte",
            signature=f"bits_per_byte=nll/(ln 2 * UTF-8 bytes of the reference)|{SIGNATURE}",
            label="Bits per byte",
            sees=f"{SEES} Comparable between tokenizers.",
            blind_to="What the variant would say itself.",
            statistics=("nll", "bytes"),
            combine=bits_ratio,
        ),
    )

    def score(self, items: Sequence[Item]) -> list[Scores]:
        """Return the three values of each item with their statistics."""
        return [self._score(item) for item in items]

    def _score(self, item: Item) -> Scores:
        names = [spec.name for spec in self.specs]
        size = len(item.reference.encode("utf-8", "surrogatepass"))
        nll, tokens = item.nll, item.reference_tokens
        if nll is None or not tokens or not size or not math.isfinite(nll):
            return Scores(dict.fromkeys(names))
        each = nll / tokens
        values = (each, math.exp(each) if each < LARGEST_EXPONENT else None, nll / (math.log(2) * size))
        statistics = ((nll, float(tokens)), (nll, float(tokens)), (nll, float(size)))
        return Scores(dict(zip(names, values, strict=True)), dict(zip(names, statistics, strict=True)))


_measured = partial(MetricSpec, higher_is_better=False, scale="0 or more")

FIDELITY: tuple[MetricSpec, ...] = (
    _measured(
        name="fidelity.kl",
        unit="nats/token",
        aggregation="corpus",
        signature="KL(against || variant)|mean over reference tokens|natural log|v1",
        label="KL divergence",
        sees="How much the next-token distributions differ along the reference.",
        blind_to="Replies that the variants would generate themselves.",
        statistics=("kl", "tokens"),
        combine=ratio_of_sums,
    ),
    _measured(
        name="fidelity.kl_p99",
        unit="nats/token",
        aggregation="quantile",
        signature="KL(against || variant)|p99 over reference tokens, dialogues resampled|v1",
        label="KL divergence p99",
        sees="The worst 1% of the positions, which a mean hides.",
        blind_to="Which positions these are.",
    ),
    _measured(
        name="fidelity.top1_agreement",
        unit="share of tokens",
        higher_is_better=True,
        aggregation="corpus",
        signature="argmax equal|share of reference tokens|v1",
        label="Top-1 agreement",
        scale="0–1",
        sees="How often both would choose the same next token.",
        blind_to="How sure they are of it.",
        statistics=("agree", "tokens"),
        combine=ratio_of_sums,
    ),
    _measured(
        name="fidelity.max_abs_dlogp",
        unit="nats",
        aggregation="mean",
        signature="max |Δ log p(reference token)| of a dialogue|mean over dialogues|v1",
        label="Largest change of a token's log-probability",
        sees="The largest change of any reference token in a dialogue, on average over dialogues.",
        blind_to="How many tokens changed.",
    ),
    _measured(
        name="fidelity.nll_difference",
        unit="nats/token",
        higher_is_better=None,
        aggregation="corpus",
        signature="(Σ nll variant − Σ nll against) / Σ tokens|v1",
        label="Difference of nll",
        scale="around 0",
        sees="Whether one variant predicts the references worse than the other.",
        blind_to="Differences that cancel out.",
        statistics=("nll_difference", "tokens"),
        combine=ratio_of_sums,
    ),
    _measured(
        name="fidelity.identical_replies",
        unit="share of replies",
        higher_is_better=True,
        aggregation="rate",
        signature="replies equal character by character|v1",
        label="Identical replies",
        scale="0–1",
        sees="Greedy replies that are the same in both.",
        blind_to="How much the others differ. Different kernels alone can make identical models diverge.",
    ),
    _measured(
        name="fidelity.first_divergence",
        unit="tokens",
        higher_is_better=True,
        aggregation="mean",
        signature="tokens before the first difference|mean over replies that differ|v1",
        label="First divergence",
        sees="How long two replies are identical before they differ.",
        blind_to="What comes after. Identical replies are left out.",
    ),
    _measured(
        name="fidelity.sure_disagreement",
        unit="share of replies",
        aggregation="rate",
        signature="replies part at a token more than 0.5 nats less probable than the local model's own|v1",
        label="Sure disagreements",
        scale="0–1",
        sees="Replies of a server that first differ at a token that the model it claims to serve is sure of.",
        blind_to="What comes after the first difference, and replies whose token ids are not known.",
    ),
)


def _quantile(timing: str, percentile: int) -> MetricSpec:
    label, sees = TIMINGS[timing]
    return _measured(
        name=f"latency.{timing}.p{percentile}",
        unit="ms",
        aggregation="quantile",
        signature=f"{timing}|p{percentile}|fixed length|unit:request|host clock|v1",
        label=f"{label} p{percentile}",
        sees=sees,
        blind_to="Queueing under load: requests are sent one after another unless the conditions say otherwise.",
    )


TIMINGS = {
    "ttft_ms": ("Time to first token", "From submission to the first generated token on the host."),
    "ttft_host_ms": (
        "Host's part of time to first token",
        "From submission to the launch of the prompt's last kernel.",
    ),
    "tpot_ms": ("Time per output token", "(end to end − first token) / (tokens − 1), per request."),
    "itl_ms": ("Inter-token latency", "Every gap between consecutive tokens, pooled over requests."),
    "e2e_ms": ("End-to-end latency", "From submission to the last token."),
}

LATENCY: tuple[MetricSpec, ...] = (
    _quantile("ttft_ms", 50),
    _quantile("ttft_ms", 95),
    replace(
        _quantile("ttft_host_ms", 50),
        blind_to="Whether the device was idle meanwhile: it runs the first kernels while the host launches the others.",
    ),
    _quantile("tpot_ms", 50),
    _quantile("itl_ms", 50),
    _quantile("itl_ms", 99),
    _quantile("e2e_ms", 50),
    _quantile("e2e_ms", 95),
    _measured(
        name="latency.tokens_per_s",
        unit="tokens/s",
        higher_is_better=True,
        aggregation="corpus",
        signature="tokens_per_s|all output tokens / all seconds from submission to last token|v1",
        label="Tokens per second",
        sees="Output tokens divided by the time of their requests, first token included.",
        blind_to="Throughput at larger batches, unless the conditions name one.",
        statistics=("tokens", "seconds"),
        combine=ratio_of_sums,
    ),
    _measured(
        name="latency.goodput",
        unit="share of requests",
        higher_is_better=True,
        aggregation="rate",
        signature="goodput|requests within the TTFT and TPOT budgets|v1",
        label="Goodput",
        scale="0–1",
        sees="Requests within both budgets of the config.",
        blind_to="By how much the others miss. Absent if no budget is set.",
    ),
    _measured(
        name="latency.errors",
        unit="share of requests",
        aggregation="rate",
        signature="errors|requests that ended without a whole reply; none is tried again|v1",
        label="Failed requests",
        scale="0–1",
        sees="Timed requests that a server refused, broke off or did not answer.",
        blind_to="Why: the records say. Measured of servers alone.",
    ),
    _measured(
        name="latency.mbu",
        unit="share of bandwidth",
        higher_is_better=True,
        aggregation="value",
        signature="mbu|(weights + KV + adapter bytes) / measured bandwidth / TPOT p50|v1",
        label="Memory bandwidth used",
        scale="0–1",
        sees="How close decoding is to the floor set by reading the weights once per token.",
        blind_to="Compute-bound work: prefill and large batches.",
    ),
    _measured(
        name="latency.prefill_mfu",
        unit="share of matrix throughput",
        higher_is_better=True,
        aggregation="value",
        signature="prefill_mfu|2 a weight and token, and causal attention / measured throughput / TTFT p50|v1",
        label="Matrix throughput used by prompts",
        scale="0–1",
        sees="How close prefill is to the floor set by its arithmetic.",
        blind_to="Short prompts, which are limited by reading the weights; and decoding.",
    ),
)


def _size(name: str, label: str, sees: str, blind_to: str, signature: str) -> MetricSpec:
    return _measured(
        name=f"memory.{name}",
        unit="MiB",
        aggregation="value",
        signature=f"{name}|{signature}|fresh process, fixed workload|v1",
        label=label,
        sees=sees,
        blind_to=blind_to,
    )


MEMORY: tuple[MetricSpec, ...] = (
    _size(
        "weights_mib", "Weights", "Parameters and buffers as loaded.", "Everything that is allocated during use.", "sum"
    ),
    _size("kv_cache_mib", "KV cache", "Keys and values at the workload's end.", "Longer contexts.", "shapes"),
    _size(
        "activations_mib",
        "Activations",
        "Peak allocated minus weights and KV cache.",
        "Which layer needs them.",
        "difference",
    ),
    _size(
        "peak_allocated_mib",
        "Peak allocated",
        "The most GPU memory held by tensors at once: the figure to gate on.",
        "Loading, the allocator's reserve and the CUDA context. Absent on a CPU.",
        "torch max_memory_allocated",
    ),
    _size(
        "peak_reserved_mib",
        "Peak reserved",
        "The most GPU memory reserved by the allocator.",
        "How much of it was needed. Absent on a CPU.",
        "torch max_memory_reserved",
    ),
    _size(
        "peak_rss_mib",
        "Peak RSS",
        "The most main memory held by the process.",
        "GPU memory; on a CPU it includes the interpreter and its libraries.",
        "resident set",
    ),
    _size(
        "nvml_used_mib",
        "GPU memory of the process",
        "The driver's count for the process, CUDA context included.",
        "How much of it is in use. Absent on a CPU.",
        "NVML",
    ),
    _size(
        "disk_mib", "On disk", "Files of the model; for an adapter, including its base.", "Sharing of a base.", "files"
    ),
    _measured(
        name="memory.load_seconds",
        unit="s",
        aggregation="value",
        signature="load_seconds|fresh process|v1",
        label="Loading time",
        sees="From the first byte read to a model ready for its first prompt.",
        blind_to="Whether the files were in the page cache.",
    ),
)

MEASURED: Mapping[str, Sequence[MetricSpec]] = {"fidelity": FIDELITY, "latency": LATENCY, "memory": MEMORY}
"""The metrics that passes measure themselves, by family."""
