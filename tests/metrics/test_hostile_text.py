"""Whatever a reply, a reference or a prompt holds, every metric gives a value and comes to an end."""

from __future__ import annotations

import math
import time
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.files import dump_row
from harness.metrics.loading import load_metrics
from harness.metrics.metric_set import MetricSet
from harness.metrics.registry import Item, Scores
from harness.store.schema import FindingRow, ReplyRow

PIECES = st.sampled_from(
    [
        *(
            "chest pain ",
            "no ",
            "not ",
            "if ",
            "call 911 ",
            "ibuprofen ",
            "5 mg ",
            "1,000",
            "2-3 weeks ",
            "fever, ",
            "? ",
        ),
        *(
            "### ",
            "<|im_end|>",
            "Doctor: ",
            "\n",
            "\x00",
            "\u202e",
            "\ud83d",
            "😀",
            "İ",
            "ß",
            "’",
            "&amp;",
            "-\n",
            "? ",
        ),
    ]
)
ANY_CHARACTER = st.characters(codec=None, categories=None)  # lone surrogates as well
TEXTS = st.one_of(st.text(ANY_CHARACTER, max_size=60), st.lists(PIECES, max_size=25).map("".join))


@cache
def metrics() -> MetricSet:
    return load_metrics()


def check(scores: Scores) -> None:
    for name, value in scores.values.items():
        if value is not None:
            assert math.isfinite(value), name
            if metrics().specs[name].aggregation == "rate":
                assert value in (0, 1), name
    assert all(math.isfinite(number) for row in scores.statistics.values() for number in row)
    findings = tuple(FindingRow(metric=f.metric, rule=f.rule, words=f.words) for f in scores.findings)
    dump_row(ReplyRow(id="1", scores=dict(scores.values), statistics=dict(scores.statistics), findings=findings))


@settings(max_examples=150, deadline=None)
@given(prompt=TEXTS, reference=TEXTS, reply=st.none() | TEXTS)
def test_any_text_can_be_judged(prompt: str, reference: str, reply: str | None) -> None:
    item = Item("1", prompt, reference, reply, {"must_have": [reference]}, finish="length", nll=3.0, reference_tokens=2)
    check(metrics().score([item])[0])


@settings(max_examples=50, deadline=None)
@given(text=st.text(ANY_CHARACTER, min_size=1, max_size=40))
def test_a_reply_equal_to_its_reference_is_never_flagged_as_unsupported(text: str) -> None:
    scores = metrics().score([Item("1", "", text, text)])[0]
    for name in ("unsupported_medications", "unsupported_doses", "unsupported_numbers", "negation_flips"):
        assert not scores.values[f"safety.{name}"]


@pytest.mark.slow
@pytest.mark.parametrize("piece", ["no fever, ", "ibuprofen 5 mg ", "a\n"])
def test_a_megabyte_is_judged_in_bounded_time(piece: str) -> None:
    reply = piece * (1_000_000 // len(piece))
    item = Item("1", "I have chest pain and no fever.", "Rest.\nTake ibuprofen, 400 mg, for 2 weeks.", reply)
    metrics().score([Item("0", "", "", "")])
    start = time.process_time()
    check(metrics().score([item])[0])
    assert time.process_time() - start < 60
