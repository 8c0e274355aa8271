"""The definition of a metric.

A metric is a small class (or a decorated function, see ``per_reply``) that declares ``specs`` and turns replies into
scores. There is no global registry: ``load_metrics`` imports the built-in modules and a user's own and collects what
they declare, so that importing a metric has no side effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from pydantic import Field

from harness.stats.types import Aggregate
from harness.yamlfile import Strict

Aggregation = Literal["mean", "rate", "corpus", "quantile", "value"]


@dataclass(frozen=True)
class Accuracy:
    """How often a rule was right on labelled pairs of this project: shares, over ``pairs`` pairs."""

    precision: float
    recall: float
    pairs: int


@dataclass(frozen=True)
class MetricSpec:
    """One number of the summary, declared once and used by tables, report and gate.

    ``aggregation``: mean over dialogues; rate (mean of 0/1); corpus (``combine`` over summed sufficient statistics);
    quantile over requests (timings); value (measured once, e.g. memory).
    ``higher_is_better`` is None if neither direction is better (length ratio).
    ``signature`` states everything that must agree for two values to be comparable.
    ``sees`` and ``blind_to`` are sentences for the report and ``harness metrics``.
    ``accuracy``: what was measured of a rule. ``screen``: read its findings, do not gate on it.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    aggregation: Aggregation
    signature: str
    label: str
    scale: str = ""
    sees: str = ""
    blind_to: str = ""
    heuristic: bool = False
    statistics: tuple[str, ...] = ()
    combine: Aggregate | None = None
    default: bool = True
    accuracy: Accuracy | None = None
    screen: bool = False

    @property
    def family(self) -> str:
        """``quality``, ``safety``, ``fidelity``, ``latency`` or ``memory``."""
        return self.name.split(".", 1)[0]


@dataclass(frozen=True)
class Finding:
    """Why a rule flagged a reply: the rule, and the words of the text that triggered it."""

    metric: str
    rule: str
    words: tuple[str, ...] = ()


@dataclass(frozen=True)
class Item:
    """One reply to be scored, with everything a metric may use. ``reply`` is untrusted data."""

    id: str
    prompt: str
    reference: str
    reply: str | None
    columns: Mapping[str, object] = field(default_factory=dict)
    reply_tokens: int | None = None
    finish: str | None = None
    nll: float | None = None
    reference_tokens: int | None = None
    system: str = ""  # whose reply it is


@dataclass(frozen=True)
class Scores:
    """The results of metrics for one reply.

    ``values`` has the per-dialogue values for display and means (None: undefined for this reply, which is not counted).
    ``statistics`` holds the sufficient statistics of corpus metrics, in the order of ``MetricSpec.statistics``.
    ``undefined``: why a metric cannot read this text, by its name; its value is None and a warning counts it.
    """

    values: Mapping[str, float | None] = field(default_factory=dict)
    statistics: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    findings: tuple[Finding, ...] = ()
    undefined: Mapping[str, str] = field(default_factory=dict)


def not_defined(names: Iterable[str], reason: str) -> Scores:
    """Return Scores of a text that metrics cannot read, with the reason."""
    names = tuple(names)
    return Scores(dict.fromkeys(names), undefined=dict.fromkeys(names, reason))


EVERYTHING = 2**62


@runtime_checkable
class Metric(Protocol):
    """A metric: its specs, and one ``Scores`` per item in order. It must not raise on any text.

    One that needs many items at a time says so with ``at_once``, their number (``EVERYTHING``: all of the run); its
    items are not shared among processes.
    """

    specs: tuple[MetricSpec, ...]

    def score(self, items: Sequence[Item]) -> Sequence[Scores]: ...


class ReplyMetric:
    """A metric that scores each reply separately; without a reply, every value is None."""

    specs: tuple[MetricSpec, ...] = ()

    def score(self, items: Sequence[Item]) -> list[Scores]:
        nothing = Scores(dict.fromkeys(spec.name for spec in self.specs))
        return [nothing if item.reply is None else self.judge(item, item.reply) for item in items]

    def judge(self, item: Item, reply: str) -> Scores:
        """Return the metric's scores of one reply."""
        raise NotImplementedError


class MetricOptions(Strict):
    """Settings of metrics that need any."""

    encoder: str | None = Field(None, description="path or hub id of the encoder of BERTScore and similarity")
    stemmer: bool = False
    modules: tuple[str, ...] = Field((), description="Python files or modules with further metrics")
    words: Literal["auto", "latin", "unicode"] = Field(
        "auto", description="what ROUGE counts as a word; auto: by the script of the references"
    )
    bleu_tokenizer: Literal["auto", "13a", "intl", "zh", "ja-mecab", "ko-mecab", "flores200", "char"] = Field(
        "auto", description="a tokenizer of sacrebleu; auto: by the script of the references"
    )
