"""This harness and lm-evaluation-harness on one GPU: Llama-2-7B's geometry, base + adapter + merged, in turns.

    python -m benchmarks.peers.lm_eval_gpu --out result.json                    # eight minutes on an H200
    python -m benchmarks.peers.lm_eval_gpu --parts harness,limits --out own.json    # without lm-eval: two and a half
    python -m benchmarks.peers.lm_eval_gpu --shape tiny --device cpu --out tiny.json    # the same steps in a minute

Parts, in this order (``--parts`` picks some):

- ``harness``: the whole job by this harness;
- ``lm-eval``: its best batch size is found on the base, then the whole job is done at that one, then by this harness
  again: "times faster" is by the mean of this harness's runs. A batch size for which memory runs out is named, and the
  best of the others is taken;
- ``limits``: what the machine could do, what decoding and scoring reach of it, and where their time goes;
- ``eager``: how far fast replies are those of plain ``generate``.

``--seconds`` bounds the time. What it leaves no time for is named in the result, which is written after every part. A
part that fails leaves its error there, and the other parts still run.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import statistics
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.peers.jobs import (
    Done,
    Job,
    Tried,
    agreement,
    by_harness,
    by_lm_eval,
    fastest_first,
    quiet_libraries,
    release,
    tried_batches,
    unless_out_of_memory,
)
from benchmarks.peers.limits import (
    agreement_with_eager,
    decode_against_roofline,
    generation_profile,
    kernel_profile,
    measured_limits,
    scoring_utilisation,
)
from benchmarks.peers.machine import provenance, write_result
from benchmarks.peers.random_models import SHAPES, make_variants, random_dialogues
from harness.backends.local.fused_layers import FusedLayers
from harness.backends.local.pool import SharedPool

PARTS = ("harness", "lm-eval", "limits", "eager")
DECODE_ROWS = (1, 64, 256)
PROFILED = 512  # dialogues: two full batches of rows
AFTER_LM_EVAL = 110.0  # seconds that lm-eval's last variant and the limits take at 7b
LIMIT_SECONDS = 12.0  # the longest of the limits' measurements takes about as much at 7b


def main() -> int:
    """Read the options, run the benchmark and write its results."""
    arguments = _arguments()
    quiet_libraries()
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        bench.run(Path(folder))
    print(bench.table())
    return 1 if bench.result["failed"] else 0


class Bench:
    """The parts of the comparison, each timed and written down as it ends."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device: str = arguments.device
        self.started = time.perf_counter()
        self.harness: list[Done] = []
        self.lm_eval = Done()
        self.tried: dict[int, Tried] = {}
        self.result: dict[str, Any] = {
            "provenance": provenance(self.device),
            "parts_seconds": {},
            "not_begun": [],
            "failed": {},
        }

    def run(self, folder: Path) -> None:
        job = self.make_job(folder)
        parts = self.arguments.parts
        if "harness" in parts:
            self.part("harness", partial(self.ours, job))
        if "lm-eval" in parts:
            self.part("find lm-eval's batch", partial(self.try_batches, job))
            self.part("lm-eval", partial(self.theirs, job))
            again = 1.2 * max((done.seconds for done in self.harness), default=0.0)
            self.part("harness again", partial(self.ours, job), needs=again)
        if "limits" in parts:
            self.part("limits", partial(self.limits, job), needs=LIMIT_SECONDS)
        if "eager" in parts:
            self.part("eager", partial(self.eager, job), needs=LIMIT_SECONDS)

    def make_job(self, folder: Path) -> Job:
        """Write the models; nothing can go on without them, so what fails here ends the benchmark."""
        arguments = self.arguments
        before = time.perf_counter()
        variants, self.result["model"] = make_variants(folder, arguments.shape, self.device)
        release(self.device)
        dialogues = random_dialogues(arguments.dialogues, SHAPES[arguments.shape]["vocab_size"])
        job = Job(variants, dialogues, arguments.max_new_tokens, self.device)
        self.result["job"] = {"dialogues": len(dialogues), "max_new_tokens": job.max_new_tokens, "variants": 3}
        self.ended("make models", before)
        return job

    def part(self, name: str, work: Callable[[], None], *, needs: float = 0.0) -> None:
        """Do a part if the seconds it needs are left; a failure is recorded, and the others still run."""
        if self.left() < needs:
            self.result["not_begun"].append(name)
            print(f"{name}: not started, {self.left():.0f} s are left", flush=True)
            return
        before = time.perf_counter()
        try:
            work()
        except Exception as error:
            traceback.print_exc()
            self.result["failed"][name] = f"{type(error).__name__}: {str(error)[:300]}"
        release(self.device)  # outside the handler, whose error may hold tensors
        self.ended(name, before)

    def ended(self, name: str, before: float) -> None:
        now = time.perf_counter()
        self.result["parts_seconds"][name] = now - before
        write_result(self.arguments.out, self.result)
        print(f"{name}: {now - before:.1f} s, {now - self.started:.0f} s in all", flush=True)

    def left(self) -> float:
        """Seconds that are left of what was allowed."""
        return float(self.arguments.seconds - (time.perf_counter() - self.started))

    def ours(self, job: Job) -> None:
        self.harness.append(by_harness(job))
        self.result["harness"] = [done.summary() for done in self.harness]
        self.compare(job)

    def try_batches(self, job: Job) -> None:
        """Time lm-eval's whole work on the base for some of the dialogues at each batch size."""
        for tried in tried_batches(job, self.arguments.batches):
            self.tried = dict(tried)
            self.result["lm_eval_probe"] = {str(batch): one.summary() for batch, one in tried.items()}
            write_result(self.arguments.out, self.result)

    def theirs(self, job: Job) -> None:
        """Do the job at lm-eval's best batch size, or where memory runs out for it at the next best.

        Variants that were not reached in time are absent, and then nothing is said of how many times faster.
        """
        out_of_memory: list[int] = []
        for batch in fastest_first(self.tried):
            deadline = time.perf_counter() + self.left() - AFTER_LM_EVAL
            done = unless_out_of_memory(partial(by_lm_eval, job, batch, deadline=deadline), self.device)
            if done is not None:
                self.lm_eval = done
                self.result["lm_eval"] = {"batch": batch, "out_of_memory_at": out_of_memory, **done.summary()}
                self.compare(job)
                return
            out_of_memory.append(batch)
            self.result["lm_eval"] = {"batch": None, "out_of_memory_at": out_of_memory}
            write_result(self.arguments.out, self.result)
        raise RuntimeError("lm-eval ran out of memory at every batch size")

    def compare(self, job: Job) -> None:
        """Compare the tools as far as both have run."""
        if not self.harness or not self.lm_eval.parts:
            return
        self.result["agreement_with_lm_eval"] = agreement(self.harness[0], self.lm_eval)
        if len(self.lm_eval.parts) == len(job.variants):
            mean = statistics.mean(done.seconds for done in self.harness)
            self.result["times_faster"] = self.lm_eval.seconds / mean

    def limits(self, job: Job) -> None:
        """Measure the machine, then each of base and adapter; kernels last, because the profiler slows what follows."""
        limits = self.result["limits"] = measured_limits(self.device)
        release(self.device)
        graphs = self.device.startswith("cuda")
        some = job.dialogues[:PROFILED]
        with contextlib.closing(SharedPool(job.variants, self.device)) as pool:
            for variant in job.variants[:2]:
                with pool.use(variant) as loaded, FusedLayers(loaded.model, self.device).installed():
                    for rows in DECODE_ROWS:
                        work = partial(decode_against_roofline, loaded, job.dialogues, rows, limits, graphs)
                        self.measure("decode", f"{variant.name} at {rows}", work)
                    self.measure("profile", variant.name, partial(generation_profile, loaded, some, graphs))
                    self.measure("scoring", variant.name, partial(scoring_utilisation, loaded, some, limits))
            for variant in job.variants[:2]:
                with pool.use(variant) as loaded, FusedLayers(loaded.model, self.device).installed():
                    self.measure("kernels", variant.name, partial(kernel_profile, loaded, some, graphs))

    def eager(self, job: Job) -> None:
        some = job.dialogues[: self.arguments.eager]
        with contextlib.closing(SharedPool(job.variants, self.device)) as pool:
            for variant in job.variants[:2]:
                with pool.use(variant) as loaded:
                    work = partial(agreement_with_eager, loaded, some, min(64, job.max_new_tokens))
                    self.measure("agreement_with_eager", variant.name, work)

    def measure(self, kind: str, name: str, work: Callable[[], dict[str, Any]]) -> None:
        """Keep one measurement as a part of its own."""

        def keep() -> None:
            self.result.setdefault(kind, {})[name] = work()

        self.part(f"{kind} {name}", keep, needs=LIMIT_SECONDS)

    def table(self) -> str:
        """The numbers that matter, short."""
        keys = (
            "times_faster", "lm_eval_probe", "harness", "lm_eval", "limits", "decode", "profile", "scoring", "kernels",
            "agreement_with_lm_eval", "agreement_with_eager", "parts_seconds", "not_begun", "failed",
        )  # fmt: skip
        return "\n".join(f"{key}: {json.dumps(_short(self.result[key]))}" for key in keys if key in self.result)


def parts_of(text: str) -> tuple[str, ...]:
    """Return the parts named, in the order in which they are run."""
    asked = set(text.split(","))
    unknown = sorted(asked - set(PARTS))
    if unknown:
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(unknown)}: there are {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in asked)


def _short(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _short(part) for key, part in value.items()}
    return [_short(part) for part in value] if isinstance(value, list) else value


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=sorted(SHAPES), default="7b")
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--parts", type=parts_of, default=PARTS, help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lm_eval_gpu.json"))
    parser.add_argument("--scratch", type=Path, default=None, help="where the models are written (29 GB at 7b)")
    parser.add_argument("--dialogues", type=int, default=1024)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--eager", type=int, default=6, help="dialogues decoded at batch 1 by plain generate")
    parser.add_argument("--seconds", type=float, default=540)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
