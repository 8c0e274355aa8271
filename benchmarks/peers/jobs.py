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
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

from harness.backends.local.backend import LocalBackends
from harness.backends.local.device import is_out_of_memory
from harness.config import GenerationConfig, RunConfig
from harness.passes.base import PassContext
from harness.passes.registry import in_order
from harness.store.folder import RunFolder
from harness.store.schema import DialogueRow, GenerationRecord, ScoringRecord
from harness.variants.model import Variant

Result = TypeVar("Result")


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


# What each pass does in a run that asks for both.
PARTS = {"generation": "generation, with scoring", "scoring": "scoring, what was left"}


class Silent:
    """A progress that says nothing."""

    def start(self, task: str, total: int, unit: str = "dialogues") -> None: ...
    def advance(self, task: str, done: int = 1, tokens: int = 0) -> None: ...
    def finish(self, task: str) -> None: ...
    def note(self, message: str) -> None: ...


def by_harness(job: Job) -> Done:
    """Run the scoring and generation passes, as ``harness run`` does.

    Raises RuntimeError where a dialogue was not finished: the time of an incomplete job cannot be compared.
    """
    done = Done()
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()

        def event(kind: str, detail: Mapping[str, Any]) -> None:
            done.events.append([kind, detail])

        backends = LocalBackends(job.variants, job.device, event=event)
        context = PassContext(
            folder=RunFolder(folder),
            config=RunConfig(
                variants=job.variants,
                generation=GenerationConfig(max_new_tokens=job.max_new_tokens),
                passes=("scoring", "generation"),
            ),
            variants=job.variants,
            dialogues=job.dialogues,
            backends=backends,
            device=job.device,
            progress=Silent(),
            key=lambda name, variant, row: hashlib.sha256(f"{name}{variant.name}{row.id}".encode()).hexdigest(),
            event=event,
        )
        for one in in_order(context.config.passes):
            before = time.perf_counter()
            one.measure(context)
            done.parts[PARTS[one.name]] = {"seconds": time.perf_counter() - before}
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
        backends.close()
    release(job.device)
    return done


def by_lm_eval(job: Job, batch: int, *, deadline: float | None = None) -> Done:
    """Do the same through lm-evaluation-harness's own model class, loading each variant once as its command line does.

    Past ``deadline`` (of ``time.perf_counter``) no further variant is started; the parts then say which were done.
    """
    done = Done()
    rows = [row.id for row in job.dialogues]
    for variant in job.variants:
        if deadline is not None and time.perf_counter() > deadline:
            break
        started = time.perf_counter()
        model = lm_eval_model(variant, batch, job.device)
        load = time.perf_counter() - started
        likelihoods, replies, parts = lm_eval_work(model, job)
        done.parts[variant.name] = {"load": load, **parts}
        done.seconds += time.perf_counter() - started
        done.nll[variant.name] = {i: -value for i, (value, _) in zip(rows, likelihoods, strict=True)}
        done.reply[variant.name] = dict(zip(rows, replies, strict=True))
        del model
        release(job.device)
    return done


def lm_eval_model(variant: Variant, batch: int, device: str) -> Any:
    """Load a variant into lm-eval's model class, as its ``--model hf`` does."""
    from lm_eval.models.huggingface import HFLM

    options = {"peft": variant.adapter} if variant.adapter else {}
    return HFLM(pretrained=variant.model, dtype=variant.dtype, device=device, batch_size=batch, **options)


def lm_eval_work(model: Any, job: Job) -> tuple[list[Any], list[str], dict[str, float]]:
    """Score and reply to every dialogue with a loaded model; return likelihoods, replies and the seconds of each."""
    from lm_eval.api.instance import Instance

    settings = {"until": [], "max_gen_toks": job.max_new_tokens, "do_sample": False}
    times = [time.perf_counter()]
    score = [Instance("loglikelihood", {}, (row.prompt, row.reference), i) for i, row in enumerate(job.dialogues)]
    likelihoods = model.loglikelihood(score, disable_tqdm=True)
    times.append(time.perf_counter())
    make = [Instance("generate_until", {}, (row.prompt, settings), i) for i, row in enumerate(job.dialogues)]
    replies = model.generate_until(make, disable_tqdm=True)
    times.append(time.perf_counter())
    seconds = [after - before for before, after in pairwise(times)]
    return likelihoods, replies, dict(zip(("scoring", "generation"), seconds, strict=True))


@dataclass(frozen=True)
class Tried:
    """lm-eval's whole work on some dialogues at one batch size; ``seconds`` is None where memory ran out."""

    dialogues: int
    seconds: float | None

    @property
    def seconds_per_dialogue(self) -> float | None:
        return None if self.seconds is None else self.seconds / self.dialogues

    def summary(self) -> dict[str, Any]:
        """What goes into the result file."""
        found = {"dialogues": self.dialogues, "seconds": self.seconds, "per_dialogue": self.seconds_per_dialogue}
        return found if self.seconds is not None else {**found, "why": "out of memory"}


def tried_batches(job: Job, batches: Iterable[int]) -> Iterator[dict[int, Tried]]:
    """Yield, after each, how lm-eval fared on the first variant at each batch size so far, loading apart.

    Each size works on two full batches, because with fewer dialogues the larger sizes would all do the same. The
    largest comes first, so that too little memory shows at once.
    """
    model = lm_eval_model(job.variants[0], 1, job.device)
    # Whichever size came first would otherwise include the time the libraries take to start.
    lm_eval_work(model, replace(job, dialogues=job.dialogues[:2], max_new_tokens=4))
    tried: dict[int, Tried] = {}
    for batch in sorted(batches, reverse=True):
        model.batch_size_per_gpu = batch
        some = replace(job, dialogues=job.dialogues[: 2 * batch])
        worked = unless_out_of_memory(partial(lm_eval_work, model, some), job.device)
        tried[batch] = Tried(len(some.dialogues), None if worked is None else sum(worked[2].values()))
        yield tried
    del model
    release(job.device)


def fastest_first(tried: Mapping[int, Tried]) -> list[int]:
    """Return the batch sizes that fitted, by rising seconds per dialogue."""
    fitted = {batch: one.seconds_per_dialogue for batch, one in tried.items() if one.seconds_per_dialogue is not None}
    return sorted(fitted, key=lambda batch: fitted[batch])


def unless_out_of_memory(work: Callable[[], Result], device: str) -> Result | None:
    """Return what ``work`` gives, or None, with its memory free again, where memory ran out."""
    try:
        return work()
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Outside the handler, whose error still holds the tensors that did not fit.
    release(device)
    return None


def release(device: str) -> None:
    """Free the memory that the last tool used, so that it does not affect the next one."""
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
