"""User-defined metrics: a decorator, and loading of the modules that a config names.

::

    # my_metrics.py
    from harness.metrics import Item, per_reply

    @per_reply(name="quality.asks_back", unit="share of replies", higher_is_better=True, aggregation="rate")
    def asks_back(item: Item) -> float | None:
        return float("?" in item.reply)
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import math
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Literal

from harness.errors import HarnessError, InputError
from harness.metrics.measured import MEASURED
from harness.metrics.registry import Item, Metric, MetricSpec, Scores

ReplyFunction = Callable[[Item], float | None]
NAME = re.compile(r"[a-z][a-z0-9_]*(\.[a-z0-9_]+)+")


@dataclass(frozen=True)
class FunctionMetric:
    """A metric from a function of one reply. It is called only for dialogues that have a reply."""

    function: ReplyFunction
    specs: tuple[MetricSpec, ...]

    def __call__(self, item: Item) -> float | None:
        """Call the decorated function as it was written."""
        return self.function(item)

    def score(self, items: Sequence[Item]) -> list[Scores]:
        """Return the function's value for each item; raise HarnessError with the dialogue it failed on."""
        return [Scores({self.specs[0].name: self._value(item)}) for item in items]

    def _value(self, item: Item) -> float | None:
        if item.reply is None:
            return None
        try:
            value = self.function(item)
            number = None if value is None else float(value)
        except Exception as error:
            raise HarnessError(
                f"The metric {self.specs[0].name} failed on dialogue '{item.id}': {type(error).__name__}: {error}. "
                "Fix its function, or remove its module from metric_options.modules."
            ) from error
        if number is not None and not math.isfinite(number):
            raise HarnessError(
                f"The metric {self.specs[0].name} returned {number} for dialogue '{item.id}'. "
                "Return None where the metric is undefined."
            )
        return number


def per_reply(
    *,
    name: str,
    unit: str,
    higher_is_better: bool | None,
    aggregation: Literal["mean", "rate"] = "mean",
    label: str = "",
    scale: str = "",
    sees: str = "",
    blind_to: str = "",
    signature: str = "",
    heuristic: bool = False,
) -> Callable[[ReplyFunction], FunctionMetric]:
    """Turn a function that returns a reply's value, or None where it is undefined, into a metric.

    ``aggregation`` is ``rate`` for functions that return 0 or 1. Raises InputError for an unusable name.
    """
    if not NAME.fullmatch(name) or name.split(".", 1)[0] in MEASURED:
        raise InputError(f"'{name}' is not a valid metric name: use family.name, e.g. 'quality.asks_back'.")

    def decorate(function: ReplyFunction) -> FunctionMetric:
        spec = MetricSpec(
            name=name,
            unit=unit,
            higher_is_better=higher_is_better,
            aggregation=aggregation,
            signature=signature or f"{name}|user's own",
            label=label or name.split(".", 1)[1].replace("_", " "),
            scale=scale,
            sees=sees or (function.__doc__ or "").strip().split("\n")[0],
            blind_to=blind_to,
            heuristic=heuristic,
        )
        return FunctionMetric(function, (spec,))

    return decorate


def user_metrics(modules: Sequence[str]) -> list[Metric]:
    """Return the metrics of the user's modules (``.py`` paths or module names), in the order of their definition.

    Raises InputError for a module that cannot be imported or contains no metric.
    """
    found: list[Metric] = []
    for name in modules:
        module = _import(name)
        metrics = [metric for metric in (_as_metric(value, module) for value in vars(module).values()) if metric]
        if not metrics:
            raise InputError(
                f"{name} contains no metric: decorate a function with @per_reply, or write a Metric class."
            )
        found += metrics
    return found


def _as_metric(value: object, module: ModuleType) -> Metric | None:
    if isinstance(value, type):
        own = value.__module__ == module.__name__ and hasattr(value, "specs") and hasattr(value, "score")
        value = value() if own else None
    elif not isinstance(value, FunctionMetric):
        return None
    return value if isinstance(value, Metric) else None


def _import(name: str) -> ModuleType:
    try:
        if not name.endswith(".py"):
            return importlib.import_module(name)
        path = Path(name).resolve()
        if not path.is_file():
            raise InputError(f"The metrics module {name} does not exist.")
        unique = f"harness_user_metrics_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
        spec = importlib.util.spec_from_file_location(unique, path)
        if spec is None or spec.loader is None:
            raise InputError(f"The metrics module {name} cannot be imported.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[unique] = module  # dataclasses look up their module there
        spec.loader.exec_module(module)
        return module
    except HarnessError:
        raise
    except Exception as error:
        raise InputError(
            f"The metrics module {name} cannot be imported ({type(error).__name__}: {error}). "
            "Use a .py file or a module on Python's path."
        ) from error
