"""The ``evaluate.Metric`` classes. Importing this imports ``evaluate``, which takes seconds: see ``load``."""

from __future__ import annotations

from collections.abc import Sequence

import datasets
import evaluate
import numpy as np

from harness.metrics.registry import Item, MetricSpec
from harness.metrics.text.bleu import Bleu
from harness.metrics.text.chrf import Chrf
from harness.metrics.text.rouge import Rouge

CITATION = "See the signature for the implementation whose values these equal."


def _info(specs: Sequence[MetricSpec]) -> evaluate.MetricInfo:
    text = datasets.Value("string")
    return evaluate.MetricInfo(
        description=" ".join(spec.sees for spec in specs),
        citation=CITATION,
        inputs_description="predictions: replies; references: one reference for each.",
        features=datasets.Features({"predictions": text, "references": text}),
        format=None,
    )


def _items(predictions: Sequence[str], references: Sequence[str]) -> list[Item]:
    pairs = zip(predictions, references, strict=True)
    return [Item(str(number), "", reference, reply) for number, (reply, reference) in enumerate(pairs)]


class RougeModule(evaluate.Metric):  # type: ignore[misc]
    """Mean F1 of rouge1, rouge2, rougeL and rougeLsum, under the names that ``evaluate`` gives them."""

    def __init__(self, stemmer: bool = False, **options: object) -> None:
        self.metric = Rouge(stemmer)
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return _info(self.metric.specs)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float]:
        values = [list(scores.values.values()) for scores in self.metric.score(_items(predictions, references))]
        names = ("rouge1", "rouge2", "rougeL", "rougeLsum")
        return dict(zip(names, np.mean(np.array(values, dtype=np.float64), axis=0).tolist(), strict=True))


class _CorpusModule(evaluate.Metric):  # type: ignore[misc]
    """A corpus score with its signature, under the last part of the metric's name."""

    made: type[Bleu] | type[Chrf]

    def __init__(self, **options: object) -> None:
        self.metric = self.made()
        super().__init__(**options)

    def _info(self) -> evaluate.MetricInfo:
        return _info(self.metric.specs)

    def _compute(self, predictions: Sequence[str], references: Sequence[str]) -> dict[str, float | str]:
        spec = self.metric.specs[0]
        assert spec.combine is not None
        counts = [scores.statistics[spec.name] for scores in self.metric.score(_items(predictions, references))]
        value = float(spec.combine(np.sum(np.array(counts, dtype=np.float64), axis=0)))
        name = spec.name.split(".")[1]
        return {name: value, f"{name}_signature": spec.signature}


class BleuModule(_CorpusModule):
    """Corpus BLEU, 0–100, with its signature."""

    made = Bleu


class ChrfModule(_CorpusModule):
    """Corpus chrF++, 0–100, with its signature."""

    made = Chrf
