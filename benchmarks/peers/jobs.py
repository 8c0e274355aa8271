"""One quality job, done by this harness and by lm-evaluation-harness: every variant scores and replies to every
dialogue. The clock runs from nothing loaded to the last number, captures and all.

Outside it, for both: imports, and what their command lines do before and after (digests and checks of the weights here,
metrics and tables in both)."""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.config import RunConfig
from harness.engine.pool import SharedPool
from harness.passes import generation, scoring
from harness.passes.base import PassContext, in_order
from harness.store import DialogueRow, GenerationRecord, RunFolder, ScoringRecord
from harness.variants import Variant


@dataclass(frozen=True)
class Job:
    """What is to be done."""

    variants: tuple[Variant, ...]
    dialogues: tuple[DialogueRow, ...]
    max_new_tokens: int
    device: str


@dataclass
class Done:
    """How long it took, in parts by variant, and what came out (by variant and dialogue)."""

    seconds: float = 0.0
    parts: dict[str, dict[str, float]] = field(default_factory=dict)
    nll: dict[str, dict[str, float]] = field(default_factory=dict)
    reply: dict[str, dict[str, str]] = field(default_factory=dict)
    reply_lengths: list[int] = field(default_factory=list)
    peak_rss_mib: float = 0.0  # of the whole process so far, when the clock stopped
    events: list[Any] = field(default_factory=list)

    def summary(self) -> dict[str, Any]:
        """What goes into the result file."""
        lengths = sorted(self.reply_lengths)
        tokens = {"tokens": sum(lengths), "tenths": lengths[:: max(1, len(lengths) // 10)]} if lengths else None
        return {"seconds": self.seconds, "parts": self.parts, "replies": tokens, "events": self.events}


@dataclass(frozen=True)
class Part:
    """A pass, and what it does in a run that asks for both."""

    says: str
    run: Callable[[PassContext], None]


PARTS = {
    "generation": Part("generation, with scoring", generation.run),
    "scoring": Part("scoring, what was left", scoring.run),
}


class Silent:
    """A progress that says nothing."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0) -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...


def by_harness(job: Job) -> Done:
    """Run the scoring and generation passes, as ``harness run`` does.

    Raises RuntimeError where a dialogue was not finished: a job done in part has no time that compares.
    """
    done = Done()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        pool = SharedPool(job.variants, job.device)
        context = PassContext(
            folder=RunFolder(folder),
            config=RunConfig(
                variants=job.variants,
                generation=generation.GenerationConfig(max_new_tokens=job.max_new_tokens),
                passes=("scoring", "generation"),
            ),
            variants=job.variants,
            dialogues=job.dialogues,
            pool=pool,
            progress=Silent(),
            key=lambda name, variant, row: hashlib.sha256(f"{name}{variant.name}{row.id}".encode()).hexdigest(),
            event=lambda kind, detail: done.events.append([kind, detail]),
        )
        for name in in_order(context.config.passes):
            before = time.perf_counter()
            PARTS[name].run(context)
            done.parts[PARTS[name].says] = {"seconds": time.perf_counter() - before}
        done.seconds = time.perf_counter() - started
        done.peak_rss_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        for variant in job.variants:
            scored = context.folder.records(ScoringRecord, "scoring", variant.name)
            replied = context.folder.records(GenerationRecord, "generation", variant.name)
            done.nll[variant.name] = {record.id: record.nll for record in scored if record.nll is not None}
            done.reply[variant.name] = {record.id: record.reply for record in replied if record.reply is not None}
            done.reply_lengths += [record.reply_tokens or 0 for record in replied]
            for what, found in (("scored", done.nll), ("replied to", done.reply)):
                if len(found[variant.name]) != len(job.dialogues):
                    got = f"{len(found[variant.name])} of {len(job.dialogues)}"
                    raise RuntimeError(f"{variant.name}: only {got} dialogues were {what}; events: {done.events}")
        pool.close()
    release(job.device)
    return done


def by_lm_eval(job: Job, batch: int, *, deadline: float | None = None) -> Done:
    """Do the same through lm-evaluation-harness's own model class, one load a variant as its command line does.

    Past ``deadline`` (of ``time.perf_counter``) no further variant is begun; the parts then say which were done.
    """
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    done = Done()
    settings = {"until": [], "max_gen_toks": job.max_new_tokens, "do_sample": False}
    for variant in job.variants:
        if deadline is not None and time.perf_counter() > deadline:
            break
        times = [time.perf_counter()]
        options = {"peft": variant.adapter} if variant.adapter else {}
        model: Any = HFLM(pretrained=variant.model, dtype=variant.dtype, device=job.device, batch_size=batch, **options)
        times.append(time.perf_counter())
        score = [
            Instance("loglikelihood", {}, (row.prompt, row.reference), index) for index, row in enumerate(job.dialogues)
        ]
        likelihoods = model.loglikelihood(score, disable_tqdm=True)
        times.append(time.perf_counter())
        make = [Instance("generate_until", {}, (row.prompt, settings), i) for i, row in enumerate(job.dialogues)]
        replies = model.generate_until(make, disable_tqdm=True)
        times.append(time.perf_counter())
        names = ("load", "scoring", "generation")
        done.parts[variant.name] = dict(zip(names, (b - a for a, b in pairwise(times)), strict=True))
        done.seconds += times[-1] - times[0]
        rows = [row.id for row in job.dialogues]
        done.nll[variant.name] = {i: -value for i, (value, _) in zip(rows, likelihoods, strict=True)}
        done.reply[variant.name] = dict(zip(rows, replies, strict=True))
        del model
        release(job.device)
    return done


def seconds_by_batch(job: Job, batches: Iterable[int]) -> Iterator[dict[int, float]]:
    """Yield, after each, how long lm-eval works on the first variant at each batch size so far, loading apart."""
    first = replace(job, variants=job.variants[:1])
    seconds: dict[int, float] = {}
    for batch in batches:
        parts = by_lm_eval(first, batch).parts[job.variants[0].name]
        seconds[batch] = parts["scoring"] + parts["generation"]
        yield seconds


def release(device: str) -> None:
    """Let go of what the last tool held, so that neither pays for the other."""
    gc.collect()
    if device.startswith("cuda"):
        import torch

        torch.cuda.empty_cache()


def agreement(one: Done, other: Done) -> dict[str, Any]:
    """How the two tools' numbers and replies compare, over the variants both finished."""
    both = [name for name in one.nll if name in other.nll]
    ratios = [
        abs(one.nll[name][i] - value) / max(abs(value), 1e-9)
        for name in both
        for i, value in other.nll[name].items()
        if i in one.nll[name]
    ]
    replies = [one.reply[name][i].strip() == reply.strip() for name in both for i, reply in other.reply[name].items()]
    return {
        "largest_relative_nll_difference": max(ratios, default=None),
        "identical_replies": sum(replies) / len(replies) if replies else None,
    }


def quiet_libraries() -> None:
    """No hub, no progress bars, no advice."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def folder_size(path: Path) -> int:
    """Bytes of the weights in a folder."""
    return sum(file.stat().st_size for file in path.glob("*.safetensors"))
