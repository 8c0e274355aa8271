"""The form of a reply: its length, and whether it is truncated, empty, looping or repeats the prompt."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from harness.metrics.language import script
from harness.metrics.registry import Finding, Item, MetricSpec, ReplyMetric, Scores
from harness.metrics.text.words import UNSPACED, UNSPACED_SCRIPTS, is_empty

WORD = re.compile(r"\w+")
# A character of a script without spaces is a word.
WORD_OR_MARK = re.compile(rf"[{UNSPACED}]|[^\W{UNSPACED}]+|[^\w\s]")
ASCII_WORD_OR_MARK = re.compile(r"[a-z0-9_]+|[^a-z0-9_\s]")  # the same in lower-case ASCII, in half the time
LOOP_ORDER = 4
LOOPING = 0.2  # share of repeated 4-grams from which a reply is reported as looping
COPIED_WORDS = 20
BLOCK = COPIED_WORDS // 2
# Marks that templates put around turns; a reply that contains one has continued into another turn.
TEMPLATE_MARKS = ("[INST]", "[/INST]", "<<SYS>>", "<|", "|>", "<start_of_turn>", "<end_of_turn>", "<s>", "</s>")
# The heading of some templates, and of any Markdown: a mark only where the prompt has such headings itself.
HEADING = "###"
HEADED = re.compile(rf"^[ \t]*{HEADING}", re.M)
ROLE = re.compile(
    r"^(?:#+[ \t]*)?(?:patient|doctor|user|assistant|human|system|instruction|response|input|output):", re.I | re.M
)


def _spec(name: str, label: str, sees: str, blind_to: str, signature: str, *, rate: bool = True) -> MetricSpec:
    return MetricSpec(
        name=f"quality.{name}",
        unit="share of replies" if rate else "ratio",
        higher_is_better=False,
        aggregation="rate" if rate else "mean",
        signature=signature,
        label=label,
        scale="0–1",
        sees=sees,
        blind_to=blind_to,
    )


class Form(ReplyMetric):
    """length_ratio, truncated, empty, repetition, looping and prompt_leak."""

    specs: tuple[MetricSpec, ...] = (
        MetricSpec(
            name="quality.length_ratio",
            unit="ratio",
            higher_is_better=None,
            aggregation="mean",
            signature="length_ratio|words (characters without spaces) of reply / of reference|v2",
            label="Length ratio",
            scale="0 or more; 1 is as long as the reference",
            sees="Replies much shorter or longer than the doctor's.",
            blind_to="What the words say. A mean of 1 may hide very short and very long replies.",
        ),
        _spec(
            "truncated",
            "Truncated at the limit",
            "Replies that had not ended when max_new_tokens was reached, or that end inside a reasoning block.",
            "Replies that ended mid-sentence by themselves; replies generated outside the harness without a 'finish'.",
            "truncated|finish=length|v1",
        ),
        _spec(
            "empty",
            "Empty reply",
            "Replies without a single letter or digit.",
            "Replies of words that say nothing.",
            "empty|no alphanumeric character|v1",
        ),
        _spec(
            "repetition",
            "Repetition",
            "Loops: the share of a reply's runs of four words or marks that occurred before in it.",
            "Loops inside one unbroken word; repetition in other words.",
            "repetition|1 - distinct/all 4-grams of words and marks|v1",
            rate=False,
        ),
        _spec(
            "looping",
            "Looping reply",
            "Replies in which at least a fifth of the runs of four words or marks occurred before.",
            "Loops inside one unbroken word; repetition in other words.",
            f"looping|repetition >= {LOOPING}|v1",
        ),
        _spec(
            "prompt_leak",
            "Prompt in the reply",
            "Template marks (### only if the prompt has such headings), role names at the start of a line, or 20 "
            "consecutive words copied from the prompt.",
            "Shorter copies and paraphrases of the prompt. What the reference contains too does not count.",
            "prompt_leak|marks of the template, roles, 20 words|v2",
        ),
    )

    def judge(self, item: Item, reply: str) -> Scores:
        repetition, loop = repeated_share(reply)
        leaks = find_leaks(item, reply)
        findings = list(leaks)
        if repetition >= LOOPING:
            findings.append(Finding("quality.repetition", "loop", loop))
        values: dict[str, float | None] = {
            "quality.length_ratio": length_ratio(item.reference, reply),
            "quality.truncated": None if item.finish is None else float(item.finish == "length"),
            "quality.empty": float(is_empty(reply)),
            "quality.repetition": repetition,
            "quality.looping": float(repetition >= LOOPING),
            "quality.prompt_leak": float(bool(leaks)),
        }
        return Scores(values, findings=tuple(findings))


def length_ratio(reference: str, reply: str) -> float | None:
    """Return words of the reply over words of the reference; None for a reference without words.

    Where the reference's script puts no spaces between words, characters are counted.
    """
    if script(reference) in UNSPACED_SCRIPTS:
        return len("".join(reply.split())) / len("".join(reference.split()))
    expected = len(reference.split())
    return len(reply.split()) / expected if expected else None


def repeated_share(reply: str) -> tuple[float, tuple[str, ...]]:
    """Return the share of the reply's 4-grams that are repetitions, and the most frequent one."""
    lowered = reply.lower()
    words = (ASCII_WORD_OR_MARK if lowered.isascii() else WORD_OR_MARK).findall(lowered)
    grams = len(words) - LOOP_ORDER + 1
    if grams < 2:
        return 0.0, ()
    counts = Counter(zip(*(words[start:] for start in range(LOOP_ORDER)), strict=False))
    share = 1 - len(counts) / grams
    return share, (" ".join(counts.most_common(1)[0][0]),) if share >= LOOPING else ()


def find_leaks(item: Item, reply: str) -> list[Finding]:
    """Return what the reply, but not the reference, contains of the prompt or its template."""
    name = "quality.prompt_leak"
    known = (HEADING, *TEMPLATE_MARKS) if HEADED.search(item.prompt) else TEMPLATE_MARKS
    marks = tuple(mark for mark in known if mark in reply and mark not in item.reference)
    findings = [Finding(name, "template mark", marks)] if marks else []
    roles = tuple(dict.fromkeys(ROLE.findall(reply)))[:5]
    if roles and not ROLE.search(item.reference):
        findings.append(Finding(name, "role", roles))
    copied = _copied(item.prompt, item.reference, reply)
    if copied:
        findings.append(Finding(name, f"{COPIED_WORDS} words of the prompt", (copied,)))
    return findings


def _copied(prompt: str, reference: str, reply: str) -> str:
    """Return the first run of 20 words that the reply copies from the prompt and the reference does not."""
    blocks = _blocks(prompt)
    words = _words(reply)
    # Any 20 words in a row hold ten that begin at a multiple of ten.
    if not blocks or not any(tuple(words[at : at + BLOCK]) in blocks for at in range(0, len(words), BLOCK)):
        return ""
    runs = _runs(prompt)
    spans = [match.span() for match in WORD.finditer(reply)]
    theirs: set[tuple[str, ...]] | None = None
    for start in range(len(words) - COPIED_WORDS + 1):
        run = tuple(words[start : start + COPIED_WORDS])
        if run in runs:
            theirs = _runs(reference) if theirs is None else theirs
            if run not in theirs:
                return reply[spans[start][0] : spans[start + COPIED_WORDS - 1][1]]
    return ""


def _words(text: str) -> list[str]:
    if text.isascii():  # else lower case may be of other length, and other words
        return WORD.findall(text.lower())
    return [word.lower() for word in WORD.findall(text)]


@lru_cache(maxsize=8)
def _blocks(prompt: str) -> frozenset[tuple[str, ...]]:
    return frozenset(_runs(prompt, BLOCK))


def _runs(text: str, length: int = COPIED_WORDS) -> set[tuple[str, ...]]:
    words = _words(text)
    return {tuple(words[start : start + length]) for start in range(len(words) - length + 1)}
