"""How long metrics take: 10,000 dialogues, three systems, replies of about 150 words.

Run with ``pytest benchmarks/test_metrics_speed.py``. The texts are made up from a seed, so that every machine and
commit measures the same work. ``HARNESS_BENCH_DIALOGUES`` makes it smaller for a quick look.
"""

from __future__ import annotations

import os
import random
import resource
from pathlib import Path
from typing import Any

import pytest

from harness.config import RunConfig
from harness.files import write_rows
from harness.jobs.runner import compute
from harness.metrics.loading import load_metrics
from harness.metrics.registry import Item
from harness.progress import SilentProgress
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, ReplyRow, RunManifest
from harness.variants.model import Variant

DIALOGUES = int(os.environ.get("HARNESS_BENCH_DIALOGUES", "10000"))
SYSTEMS = ("base", "adapter", "merged")
WORDS = 150
SENTENCES = (
    "Most likely this is a viral infection of the upper airways.",
    "Take paracetamol, 1 g up to four times a day, and drink plenty of warm fluids.",
    "With kidney disease you should not have ibuprofen, so ask before you take 400 mg of it.",
    "You have no fever and no chest pain, which is a good sign.",
    "If you notice trouble breathing, call 911 or go to the nearest emergency department.",
    "Come back after two weeks if the cough has not improved.",
    "The treatment may include antibiotics, inhaled corticosteroids, physical therapy or surgery.",
    "Your doctor may recommend blood tests to find the cause of the symptoms.",
    "Some people need to stay in the hospital for 3 to 5 days.",
    "Avoid smoking, alcohol and heavy meals in the evening.",
    "There is no cure, but many people live a long and active life with it.",
    "It is important to have regular check-ups, and to tell all of your health care providers about it.",
    "Clinical trials are studying new drugs such as rituximab and methotrexate.",
    "For mild pain, rest and a warm compress for 20 minutes are often enough.",
)
VOCABULARY = tuple(dict.fromkeys(word for sentence in SENTENCES for word in sentence.split()))


def make_text(rng: random.Random) -> str:
    """Return about 150 words: known sentences with words exchanged, some of them on lines of their own."""
    parts: list[str] = []
    count = 0
    while count < WORDS:
        words = [word if rng.random() < 0.8 else rng.choice(VOCABULARY) for word in rng.choice(SENTENCES).split()]
        count += len(words)
        parts.append(" ".join(words) + (" " if rng.random() < 0.8 else "\n"))
    return "".join(parts)


def make_items(dialogues: int) -> list[Item]:
    rng = random.Random(0)
    items = []
    for number in range(dialogues):
        prompt, reference = make_text(rng)[:200], make_text(rng)
        items += [Item(str(number), prompt, reference, make_text(rng), finish="eos") for _ in SYSTEMS]
    return items


@pytest.mark.parametrize("group", ["rouge", "bleu", "chrf", "form", "medical"])
def test_group_of_metrics(benchmark: Any, group: str) -> None:
    """One thousand replies through one group of metrics."""
    metrics = load_metrics([group])
    items = make_items(334)
    metrics.score(items[:3])  # lexicons are read once a process
    benchmark.pedantic(metrics.score_here, args=(items,), rounds=3)


def test_scoring_a_run(benchmark: Any, tmp_path: Path) -> None:
    """All lexical, form and medical metrics of three systems with every interval and comparison, files to files."""
    folder = RunFolder(tmp_path)
    items = make_items(DIALOGUES)
    dialogues = [DialogueRow(id=i.id, prompt=i.prompt, reference=i.reference) for i in items[:: len(SYSTEMS)]]
    write_rows(folder.dialogues_path, dialogues)
    for place, name in enumerate(SYSTEMS):
        rows = [ReplyRow(id=item.id, reply=item.reply, finish="eos") for item in items[place :: len(SYSTEMS)]]
        write_rows(folder.replies_path(name), rows)
    variants = tuple(Variant(name=name, kind="base", model="made-up") for name in SYSTEMS)
    described = tuple(variant.model_dump(mode="json") for variant in variants)
    folder.write_manifest(
        RunManifest(
            schema=1, state="running", config={}, config_digest="", variants=described, reference_variant=SYSTEMS[0]
        )
    )
    benchmark.pedantic(compute, (folder, RunConfig(variants=variants), SilentProgress()), rounds=1)
    peaks = [resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    benchmark.extra_info["peak_rss_mib"] = sum(peaks) / 1024
    found = folder.read_summary().metrics["quality.rouge_l"].variants["merged"]
    assert (found.n, found.low is not None) == (DIALOGUES, True)
