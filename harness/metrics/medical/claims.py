"""Share of a dialogue's claims (what a good answer must or may say) that a reply covers, judged by shared words."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping

from harness.metrics.medical.lexicons import word_set
from harness.metrics.medical.reading import read
from harness.metrics.registry import Finding, Item, MetricSpec, ReplyMetric, Scores

COVERED = 0.7  # share of a claim's words that must be near each other in the reply
WINDOW = 3  # sentences that count as near
STEM = 6  # words are compared by their first letters, so that "treats" meets "treatment"
KINDS = {"must_have": "Must-have claims covered", "nice_to_have": "Nice-to-have claims covered"}
SENTENCE_END = re.compile(r"[.!?\n]")
WORD = re.compile(r"[^\W_]+")


class Claims(ReplyMetric):
    """Coverage of ``must_have`` and ``nice_to_have`` claims; None if the data has none."""

    specs = tuple(
        MetricSpec(
            name=f"quality.{kind}_coverage",
            unit="share of claims",
            higher_is_better=True,
            aggregation="mean",
            signature=f"{kind}_coverage|{COVERED:g} of words by first {STEM} letters within {WINDOW} sentences|v1",
            label=label,
            scale="0–1",
            sees=f"Claims of the column '{kind}' most of whose words are near each other in the reply.",
            blind_to="Meaning: a claim in other words is missed, and one denied in the same words is covered. "
            "A proxy for a human judgement.",
            heuristic=True,
        )
        for kind, label in KINDS.items()
    )

    def judge(self, item: Item, reply: str) -> Scores:
        values: dict[str, float | None] = {}
        findings = []
        windows: list[set[str]] | None = None
        for kind in KINDS:
            claims = claims_of(item.columns, kind)
            name = f"quality.{kind}_coverage"
            if not claims:
                values[name] = None
                continue
            windows = _windows(reply) if windows is None else windows
            missed = tuple(claim for claim in claims if not _covered(claim, windows))
            values[name] = 1 - len(missed) / len(claims)
            if missed and kind == "must_have":
                findings.append(Finding(name, "claim not found", missed))
        return Scores(values, findings=tuple(findings))


def claims_of(columns: Mapping[str, object], kind: str) -> list[str]:
    """Return a dialogue's claims: a list of texts, or such a list as JSON; the column's name is case-insensitive."""
    value = next((value for key, value in columns.items() if key.lower().replace(" ", "_") == kind), None)
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            value = [line for line in value.split("\n") if line.strip()]
    if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
        return []
    return [claim for claim in value if isinstance(claim, str) and stems(claim)]


def stems(text: str) -> set[str]:
    """Return the beginnings of a text's content words, medications by their generic names."""
    reading = read(text)
    names = {word for match in reading.of("drug") for word in match.key.split()}
    ignored = word_set("stop_words.txt")
    return {word[:STEM] for word in (*WORD.findall(text.lower()), *names) if word not in ignored}


def _windows(reply: str) -> list[set[str]]:
    sentences = [found for sentence in SENTENCE_END.split(reply) if sentence.strip() and (found := stems(sentence))]
    count = max(len(sentences) - WINDOW + 1, 1)
    return [set().union(*sentences[start : start + WINDOW]) for start in range(count)]


def _covered(claim: str, windows: list[set[str]]) -> bool:
    wanted = stems(claim)
    # A brand in the claim is met by the generic name, which stems() adds on both sides.
    return any(len(wanted & window) >= COVERED * len(wanted) for window in windows)
