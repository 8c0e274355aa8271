"""How long metrics take: 10,000 dialogues, three systems, replies of about 150 words.

Run with ``pytest benchmarks/test_metrics_speed.py``. The texts are made up from a seed, so that every machine and
commit measures the same work. ``HARNESS_BENCH_DIALOGUES`` makes it smaller for a quick look.
"""

from __future__ import annotations

import os
import random
import resource
from collections.abc import Callable
from pathlib import Path

import pytest
import sacrebleu
from pytest_benchmark.fixture import BenchmarkFixture
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp

from harness.config import RunConfig
from harness.files import write_rows
from harness.jobs.compute import compute
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
def test_group_of_metrics(benchmark: BenchmarkFixture, group: str) -> None:
    """One thousand replies through one group of metrics."""
    metrics = load_metrics([group])
    items = make_items(334)
    metrics.score(items[:3])  # lexicons are read once a process
    benchmark.pedantic(metrics.score, args=(items,), rounds=3)


ROUGE = RougeScorer(["rouge1", "rouge2", "rougeL", "rougeLsum"])
BLEU = sacrebleu.BLEU(effective_order=True)
CHRF = sacrebleu.CHRF(word_order=2)
LIBRARIES: dict[str, Callable[[Item], object]] = {
    "rouge": lambda item: ROUGE.score(item.reference, item.reply),
    "bleu": lambda item: BLEU.sentence_score(item.reply, [item.reference]),
    "chrf": lambda item: CHRF.sentence_score(item.reply, [item.reference]),
}


@pytest.mark.parametrize("group", LIBRARIES)
def test_the_same_numbers_from_their_libraries(benchmark: BenchmarkFixture, group: str) -> None:
    """The same thousand replies through rouge_score and sacrebleu: what ``harness/metrics/text`` is kept for."""
    items = make_items(334)

    def score() -> None:
        Tokenizer13a.__call__.cache_clear()  # which would hold all texts from the second round on
        TokenizerRegexp.__call__.cache_clear()
        for item in items:
            LIBRARIES[group](item)

    benchmark.pedantic(score, rounds=1)


def test_scoring_a_run(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
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
