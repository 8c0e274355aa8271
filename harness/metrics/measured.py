"""How fast replies come: what each timing is called and means. The latency pass measures; the analysis computes."""

from __future__ import annotations

from harness.metrics.aggregates import ratio
from harness.metrics.registry import MetricSpec


def _quantile(timing: str, percentile: int, label: str, sees: str, workload: str) -> MetricSpec:
    return MetricSpec(
        name=f"latency.{timing}.p{percentile}",
        unit="ms",
        higher_is_better=False,
        aggregation="quantile",
        signature=f"{timing}|p{percentile}|{workload}|unit:request|host clock|v1",
        label=f"{label} p{percentile}",
        scale="0 or more",
        sees=sees,
        blind_to="Queueing under load: requests are sent one after another unless the conditions say otherwise.",
    )


TTFT = ("ttft_ms", "Time to first token", "From submission to the first generated token on the host.", "fixed length")
TPOT = (
    "tpot_ms",
    "Time per output token",
    "(end to end − first token) / (tokens − 1), per request.",
    "fixed length",
)
ITL = ("itl_ms", "Inter-token latency", "Every gap between consecutive tokens, pooled over requests.", "fixed length")
E2E = ("e2e_ms", "End-to-end latency", "From submission to the last token.", "fixed length")

SPECS: tuple[MetricSpec, ...] = (
    *(
        _quantile(timing, percentile, label, sees, workload)
        for (timing, label, sees, workload), percentiles in (
            (TTFT, (50, 95)),
            (TPOT, (50,)),
            (ITL, (50, 99)),
            (E2E, (50, 95)),
        )
        for percentile in percentiles
    ),
    MetricSpec(
        name="latency.tokens_per_s",
        unit="tokens/s",
        higher_is_better=True,
        aggregation="corpus",
        signature="tokens_per_s|all output tokens / all seconds from submission to last token|v1",
        label="Tokens per second",
        scale="0 or more",
        sees="Output tokens over the time that their requests took, first token included.",
        blind_to="Throughput at larger batches, unless the conditions name one.",
        statistics=("tokens", "seconds"),
        combine=ratio,
    ),
    MetricSpec(
        name="latency.goodput",
        unit="share of requests",
        higher_is_better=True,
        aggregation="rate",
        signature="goodput|requests within the TTFT and TPOT budgets|v1",
        label="Goodput",
        scale="0–1",
        sees="Requests that keep both budgets of the config.",
        blind_to="By how much the others miss. Absent where no budget is given.",
    ),
    MetricSpec(
        name="latency.mbu",
        unit="share of bandwidth",
        higher_is_better=True,
        aggregation="value",
        signature="mbu|(weights + KV + adapter bytes) / measured bandwidth / TPOT p50|v1",
        label="Memory bandwidth used",
        scale="0–1",
        sees="How near decoding comes to the floor that reading the weights once a token sets.",
        blind_to="Compute-bound work: prefill and large batches.",
    ),
    MetricSpec(
        name="latency.prefill_mfu",
        unit="share of matrix throughput",
        higher_is_better=True,
        aggregation="value",
        signature="prefill_mfu|2 a weight and token, and causal attention / measured throughput / TTFT p50|v1",
        label="Matrix throughput used by prompts",
        scale="0–1",
        sees="How near a prompt comes to the floor that its arithmetic sets.",
        blind_to="Short prompts, which reading the weights bounds, not arithmetic; and decoding.",
    ),
)
