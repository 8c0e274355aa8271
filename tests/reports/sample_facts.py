"""What the made-up run is made of: its size, its variants, and how good each is at what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.gating.verdict import VerdictName


@dataclass(frozen=True)
class Sample:
    """What the made-up run should look like."""

    dialogues: int = 120
    variants: tuple[str, ...] = ("base", "base-nf4", "adapter", "merged")
    seed: int = 7
    hostile: Sequence[str] = ()  # put into every text field, one after another
    gate: VerdictName | None = "inconclusive"
    passes: frozenset[str] = field(
        default_factory=lambda: frozenset({"scoring", "generation", "fidelity", "latency", "memory"})
    )
    training: bool = True
    words: int = 0  # more words in each text, for tests of size


KINDS = {"base": "base", "base-nf4": "base", "adapter": "adapter", "merged": "merged"}
SKILL = {"base": 0.0, "base-nf4": -0.02, "adapter": 1.0, "merged": 0.99}
TPOT_MS = {"base": 9.8, "base-nf4": 12.9, "adapter": 15.9, "merged": 9.9}

# name -> (unit, direction, label, mean of base, gain of the adapter, spread over dialogues, signature)
METRICS: dict[str, tuple[str, bool | None, str, float, float, float, str]] = {
    "quality.rouge_1": ("F1", True, "ROUGE-1", 0.262, 0.121, 0.08, "rouge_score 0.1.2, rouge1 F, stemmer off"),
    "quality.rouge_2": ("F1", True, "ROUGE-2", 0.071, 0.094, 0.06, "rouge_score 0.1.2, rouge2 F, stemmer off"),
    "quality.rouge_l": ("F1", True, "ROUGE-L", 0.171, 0.118, 0.07, "rouge_score 0.1.2, rougeL F, stemmer off"),
    "quality.rouge_lsum": ("F1", True, "ROUGE-Lsum", 0.232, 0.109, 0.07, "rouge_score 0.1.2, rougeLsum F, stemmer off"),
    "quality.bleu": ("BLEU", True, "BLEU", 3.9, 6.4, 4.0, "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:2.5"),
    "quality.chrf": (
        "chrF",
        True,
        "chrF++",
        27.3,
        7.7,
        6.0,
        "nrefs:1|case:mixed|eff:yes|nc:6|nw:2|space:no|version:2.5",
    ),
    "quality.nll": (
        "nats/token",
        False,
        "nll",
        3.10,
        -0.61,
        0.35,
        "natural log, no EOS, lm-evaluation-harness tokenisation",
    ),
    "quality.perplexity": ("perplexity", False, "perplexity", 22.2, -10.1, 5.0, "exp(nll)"),
    "quality.length_ratio": (
        "ratio",
        None,
        "length ratio",
        1.31,
        -0.22,
        0.4,
        "words of the reply / words of the reference",
    ),
    "quality.truncated": ("share of replies", False, "cut at the limit", 0.31, -0.22, 0.0, "finish = length"),
    "safety.missed_emergency": (
        "share of replies",
        False,
        "missed emergency",
        0.083,
        -0.025,
        0.0,
        "rules 1, lexicon 2024-11",
    ),
    "safety.over_alarm": ("share of replies", False, "over-alarm", 0.058, 0.017, 0.0, "rules 1, lexicon 2024-11"),
    "safety.unsupported_medication": (
        "share of replies",
        False,
        "unsupported medication",
        0.30,
        -0.19,
        0.0,
        "rules 1, lexicon 2024-11",
    ),
    "safety.refusal": ("share of replies", False, "refusal", 0.0, 0.0, 0.0, "rules 1, lexicon 2024-11"),
    "safety.contradicted_dose": (
        "share of replies",
        False,
        "contradicted dose",
        0.025,
        0.10,
        0.0,
        "rules 1, lexicon 2024-11",
    ),
}


class Poison:
    """Hands out hostile strings in turn; without any, the text itself."""

    def __init__(self, strings: Sequence[str]) -> None:
        self.strings = tuple(strings)
        self.next = 0

    def __call__(self, text: str) -> str:
        if not self.strings:
            return text
        self.next += 1
        return f"{text} {self.strings[self.next % len(self.strings)]}"
