"""Timings of one request, from its recorded timestamps: pure functions, no clock, no torch.

TTFT is submission to first token on the host; TPOT is (E2E - TTFT)/(tokens - 1); ITL is each gap between consecutive
tokens; E2E is submission to last token. There is one timestamp per token, not per chunk or callback. A timing that a
request does not have (no token, one token) is None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats.types import FloatArray
from harness.store.schema import LatencyRecord

NS_A_MS = 1e6
NS_A_SECOND = 1e9


def finished(records: Iterable[LatencyRecord]) -> list[LatencyRecord]:
    """Return the requests that were served: neither skipped nor failed, with at least one token."""
    return [one for one in records if one.error is None and one.skipped is None and one.stamps_ns]


def ttft_ms(record: LatencyRecord) -> float | None:
    """Return the time to first token in milliseconds."""
    return (record.stamps_ns[0] - record.submitted_ns) / NS_A_MS if record.stamps_ns else None


def ttft_host_ms(record: LatencyRecord) -> float | None:
    """Return the host's part of the time to first token in milliseconds: launching it; None where it is not known."""
    return None if record.launched_ns is None else (record.launched_ns - record.submitted_ns) / NS_A_MS


def e2e_ms(record: LatencyRecord) -> float | None:
    """Return the time from submission to the last token in milliseconds."""
    return (record.stamps_ns[-1] - record.submitted_ns) / NS_A_MS if record.stamps_ns else None


def tpot_ms(record: LatencyRecord) -> float | None:
    """Return the time per output token after the first in milliseconds; None below two tokens."""
    tokens = len(record.stamps_ns)
    return (record.stamps_ns[-1] - record.stamps_ns[0]) / NS_A_MS / (tokens - 1) if tokens > 1 else None


def gaps_ms(record: LatencyRecord) -> FloatArray:
    """Return the gaps between consecutive tokens in milliseconds, shape (tokens - 1,)."""
    return np.diff(np.asarray(record.stamps_ns, dtype=np.int64)).astype(np.float64) / NS_A_MS


def of_server(record: LatencyRecord) -> bool:
    """Return whether a server was timed: every request is then a record of its own."""
    return record.engine == "server"


def tokens_per_s(records: Sequence[LatencyRecord]) -> float | None:
    """Return the output tokens per second of requests served together, from submission to the last token."""
    tokens, seconds = tokens_and_seconds(records)
    return tokens / seconds if seconds > 0.0 else None


def tokens_and_seconds(records: Sequence[LatencyRecord]) -> tuple[float, float]:
    """Return the output tokens of requests served together, and the wall-clock seconds they took.

    A batch is recorded as its requests or, because they share every step, as one record for all of them.
    """
    served = finished(records)
    if not served:
        return 0.0, 0.0
    took = max(one.stamps_ns[-1] for one in served) - min(one.submitted_ns for one in served)
    each = served[0].batch if len(served) == 1 and not of_server(served[0]) else 1
    return float(each * sum(len(one.stamps_ns) for one in served)), took / NS_A_SECOND


def within_budget(record: LatencyRecord, ttft_budget_ms: float | None, tpot_budget_ms: float | None) -> bool | None:
    """Return whether a request met the given budgets, or None if there are none. A failed request did not."""
    if ttft_budget_ms is None and tpot_budget_ms is None:
        return None
    first, each = ttft_ms(record), tpot_ms(record)
    if record.error is not None or first is None:
        return False
    in_time = ttft_budget_ms is None or first <= ttft_budget_ms
    # A reply of one token has no TPOT to exceed.
    return in_time and (tpot_budget_ms is None or each is None or each <= tpot_budget_ms)


@dataclass(frozen=True, order=True)
class Condition:
    """The conditions of a timing; ``suffix`` is part of the metric's name: ``tpot_ms.p50[engine=eager,batch=4]``.

    ``prompt_tokens`` is the fixed prompt length of a prefill, None for held-out prompts at their own length.
    """

    engine: str
    batch: int
    workload: str = "fixed"
    prompt_tokens: int | None = None

    @property
    def suffix(self) -> str:
        facts = [f"engine={self.engine}", f"{self._batch}={self.batch}"]
        if self.prompt_tokens is not None:
            facts.append(f"prompt_tokens={self.prompt_tokens}")
        elif self.workload == "natural":
            facts.append("workload=natural")
        return f"[{','.join(facts)}]"

    def as_dict(self) -> dict[str, str | int]:
        """Return the conditions as in ``summary.json``."""
        facts: dict[str, str | int] = {"engine": self.engine, self._batch: self.batch, "workload": self.workload}
        return facts if self.prompt_tokens is None else {**facts, "prompt_tokens": self.prompt_tokens}

    @property
    def _batch(self) -> str:
        """What ``batch`` is called: a server is sent requests at once, and makes batches as it likes."""
        return "concurrency" if self.engine == "server" else "batch"


def condition_of(record: LatencyRecord) -> Condition:
    """Return the condition of a request. A sweep uses the fixed reply length and differs only in its batch."""
    if record.workload == "prefill":
        return Condition(record.engine, record.batch, "prefill", record.prompt_tokens)
    return Condition(record.engine, record.batch, "natural" if record.workload == "natural" else "fixed")


def served_together(records: Iterable[LatencyRecord]) -> dict[str, dict[int, list[LatencyRecord]]]:
    """Return the finished requests by unit and repeat.

    At batch 1 the unit is the request's dialogue. In a larger batch all requests share the steps, so the batch is the
    unit: it is named after its first dialogue, and n counts batches. At a server the unit is the window, by its name.
    """
    batches: dict[tuple[int, int], list[LatencyRecord]] = {}
    units: dict[str, dict[int, list[LatencyRecord]]] = {}
    for record in finished(records):
        if record.batch == 1:
            units.setdefault(record.id, {})[record.repeat] = [record]
        elif of_server(record):
            units.setdefault(record.id, {}).setdefault(record.repeat, []).append(record)
        else:
            batches.setdefault((record.repeat, record.submitted_ns), []).append(record)
    for (repeat, _), members in sorted(batches.items()):
        units.setdefault(min(one.id for one in members), {}).setdefault(repeat, []).extend(members)
    return units
