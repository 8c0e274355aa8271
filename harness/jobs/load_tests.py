"""Results of other tools' load tests, to be shown beside quality: guidellm, aiperf and ``vllm bench serve``.

Only what their files state is taken over; nothing is computed from it but units. Open-loop load is their business.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.errors import InputError
from harness.files import read_json

Found = Mapping[str, Any]


@dataclass(frozen=True)
class LoadTest:
    """One load under which a server was measured; times in milliseconds, None where the file does not state one."""

    tool: str
    file: str
    model: str | None
    load: str
    completed: int | None
    failed: int | None
    ttft_p50: float | None
    ttft_p99: float | None
    itl_p50: float | None
    itl_p99: float | None
    e2e_p50: float | None
    e2e_p99: float | None
    tokens_per_s: float | None


def read_load_tests(paths: Sequence[str], folder: Path | None) -> list[dict[str, Any]]:
    """Return the load tests in these files, which are relative to ``folder``.

    Raises InputError for a file that cannot be read or is of none of the tools.
    """
    return [asdict(test) for path in paths for test in _read((folder or Path()) / path)]


def _read(path: Path) -> list[LoadTest]:
    found = read_json(path)
    for tool, (is_of, read) in TOOLS.items():
        if isinstance(found, dict) and is_of(found):
            tests = [LoadTest(tool=tool, file=path.name, **facts) for facts in read(found)]
            if tests:
                return tests
    raise InputError(
        f"{path} is no result of {', '.join(TOOLS)}. Name the JSON file that the tool saved as latency.import."
    )


def _of_vllm(found: Found) -> Iterator[dict[str, Any]]:
    rate = found.get("request_rate")
    at_once = found.get("max_concurrency")
    yield {
        "model": _model(found.get("model_id")),
        "load": f"{at_once} at once" if at_once else "all at once" if rate in (None, "inf") else f"{rate} requests/s",
        "completed": _count(found.get("completed")),
        "failed": _count(found.get("failed")),
        **{
            f"{ours}_{end}": _number(found.get(f"{stated}_{theirs}_ms"))
            for ours, theirs in (("ttft", "ttft"), ("itl", "itl"), ("e2e", "e2el"))
            for end, stated in (("p50", "median"), ("p99", "p99"))
        },
        "tokens_per_s": _number(found.get("output_throughput")),
    }


def _of_aiperf(found: Found) -> Iterator[dict[str, Any]]:
    names = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "request_latency"}
    loads = _at(found, "input_config", "loadgen")
    models = _at(found, "input_config", "endpoint").get("model_names")
    at_once, rate = loads.get("concurrency"), loads.get("request_rate")
    yield {
        "model": ", ".join(filter(None, map(_model, models))) if isinstance(models, list) else None,
        "load": f"{at_once} at once" if at_once else f"{rate} requests/s" if rate else "not stated",
        "completed": _count(_at(found, "request_count").get("avg")),
        "failed": _count(_at(found, "error_request_count").get("avg")),
        **{
            f"{ours}_{end}": _number(_at(found, name).get(end))
            for ours, name in names.items()
            for end in ("p50", "p99")
        },
        "tokens_per_s": _number(_at(found, "output_token_throughput").get("avg")),
    }


def _of_guidellm(found: Found) -> Iterator[dict[str, Any]]:
    names = {
        "ttft": ("time_to_first_token_ms", 1.0),
        "itl": ("inter_token_latency_ms", 1.0),
        "e2e": ("request_latency", 1e3),
    }
    model = _model(_at(found, "args").get("model"))
    for one in found["benchmarks"]:
        if not isinstance(one, dict):
            continue
        metrics, strategy = _at(one, "metrics"), _at(one, "config", "strategy") or _at(one, "args", "strategy")
        at_once = strategy.get("streams") or strategy.get("max_concurrency")
        rate = strategy.get("rate")
        kind = _text(strategy.get("type_")) or "not stated"
        totals = _at(metrics, "request_totals") or _at(one, "request_totals")
        yield {
            "model": model,
            "load": f"{rate:g} requests/s"
            if isinstance(rate, float | int)
            else f"{at_once} at once"
            if at_once
            else kind,
            "completed": _count(totals.get("successful")),
            "failed": _count(totals.get("errored")),
            **{
                f"{ours}_{end}": _times(_number(_at(metrics, name, "successful", "percentiles").get(end)), factor)
                for ours, (name, factor) in names.items()
                for end in ("p50", "p99")
            },
            "tokens_per_s": _number(_at(metrics, "output_tokens_per_second", "successful").get("mean")),
        }


# By tool: how its files are recognised, and how they are read.
TOOLS: Mapping[str, tuple[Callable[[Found], bool], Callable[[Found], Iterator[dict[str, Any]]]]] = {
    "guidellm": (lambda found: isinstance(found.get("benchmarks"), list), _of_guidellm),
    "aiperf": (lambda found: "time_to_first_token" in found or "request_latency" in found, _of_aiperf),
    "vllm bench serve": (lambda found: "median_ttft_ms" in found, _of_vllm),
}


def _at(found: Any, *keys: str) -> Found:
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _count(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else int(number)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _model(value: Any) -> str | None:
    """Return a model's name; of a folder its last part, because a page names no path of a machine."""
    text = _text(value)
    return Path(text).name if text is not None and text.startswith(("/", "~", ".")) else text


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
