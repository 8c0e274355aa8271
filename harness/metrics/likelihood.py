"""How surprised a variant is by the doctor's own reply: nll, perplexity, bits per byte. All are corpus values.

nll is −log p of the reference's tokens given the prompt, in nats a token; its corpus value is Σ nll / Σ tokens, so long
references count for more than short ones, and perplexity is the exponential of exactly that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.metrics.aggregates import bits_ratio, exponential_ratio, ratio
from harness.metrics.registry import Item, MetricSpec, Scores

SIGNATURE = "log:natural|eos:not scored|tokens:ids[len(tok(prompt.rstrip())):]|special:the tokenizer's own"
SEES = "How probable the variant finds the doctor's own reply, token by token."
LARGEST_EXPONENT = 700.0  # exp of more is no finite number


class Likelihood:
    """nll, perplexity and bits per byte of the reference; None where it was not scored."""

    specs: tuple[MetricSpec, ...] = (
        MetricSpec(
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
            combine=ratio,
        ),
        MetricSpec(
            name="quality.perplexity",
            unit="",
            higher_is_better=False,
            aggregation="corpus",
            signature=f"perplexity=exp(nll)|{SIGNATURE}",
            label="Perplexity",
            scale="1 or more",
            sees=f"{SEES} The exponential of nll.",
            blind_to="What the variant would say itself. Not comparable between tokenizers.",
            statistics=("nll", "tokens"),
            combine=exponential_ratio,
        ),
        MetricSpec(
            name="quality.bits_per_byte",
            unit="bits/byte",
            higher_is_better=False,
            aggregation="corpus",
            signature=f"bits_per_byte=nll/(ln 2 * UTF-8 bytes of the reference)|{SIGNATURE}",
            label="Bits per byte",
            scale="0 or more",
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
