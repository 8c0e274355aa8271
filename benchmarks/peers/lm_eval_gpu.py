"""This harness and lm-evaluation-harness on one GPU: Llama-2-7B's geometry, base + adapter + merged, in turns.

    python -m benchmarks.peers.lm_eval_gpu --out result.json             # about eight minutes on an H200
    python -m benchmarks.peers.lm_eval_gpu --shape tiny --device cpu     # the same steps in a minute, anywhere

lm-eval's best batch size is found first, on a few of the dialogues. Then the whole job is done by this harness, by
lm-eval at that batch size, and by this harness again. ``--seconds`` bounds the time; what it cuts off is absent from
the result, which is written after every part.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.peers.jobs import (
    Done,
    Job,
    agreement,
    by_harness,
    by_lm_eval,
    quiet_libraries,
    release,
    seconds_by_batch,
)
from benchmarks.peers.limits import (
    agreement_with_eager,
    decode_against_roofline,
    generation_profile,
    measured_limits,
    scoring_utilisation,
)
from benchmarks.peers.machine import provenance, write_result
from benchmarks.peers.random_models import SHAPES, make_variants, random_dialogues
from harness.engine.pool import SharedPool


def main() -> None:
    arguments = _arguments()
    quiet_libraries()
    bench = Bench(arguments)
    with tempfile.TemporaryDirectory(dir=arguments.scratch) as folder:
        bench.run(Path(folder))
    print(bench.table())


class Bench:
    """The parts of the comparison, each timed and written down as it ends."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.device: str = arguments.device
        self.started = time.perf_counter()
        self.result: dict[str, Any] = {"provenance": provenance(self.device), "parts_seconds": {}}
        self.harness: list[Done] = []

    def run(self, folder: Path) -> None:
        arguments = self.arguments
        variants, made = self.part("make models", lambda: make_variants(folder, arguments.shape, self.device))
        release(self.device)
        self.result["model"] = made
        vocabulary = SHAPES[arguments.shape]["vocab_size"]
        dialogues = random_dialogues(arguments.dialogues, vocabulary)
        job = Job(variants, dialogues, arguments.max_new_tokens, self.device)
        self.result["job"] = {"dialogues": len(dialogues), "max_new_tokens": job.max_new_tokens, "variants": 3}
        best = self.part("find lm-eval's batch", lambda: self.best_batch(job))
        self.part("harness", lambda: self.ours(job))
        self.part("lm-eval", lambda: self.theirs(job, best))
        self.part("limits", lambda: self.limits(job))
        if self.left() > 1.5 * self.harness[0].seconds:
            self.part("harness again", lambda: self.ours(job))

    def part(self, name: str, work: Callable[[], Any]) -> Any:
        before = time.perf_counter()
        value = work()
        self.result["parts_seconds"][name] = time.perf_counter() - before
        write_result(self.arguments.out, self.result)
        print(f"{name}: {time.perf_counter() - before:.1f} s", flush=True)
        return value

    def left(self) -> float:
        """Seconds that are left of what was allowed."""
        return float(self.arguments.seconds - (time.perf_counter() - self.started))

    def best_batch(self, job: Job) -> int:
        """Time lm-eval's whole work on the base for a few dialogues at each batch size; the fastest a dialogue wins."""
        probe = replace(job, dialogues=job.dialogues[: self.arguments.probe])
        seconds: dict[int, float] = {}
        for seconds in seconds_by_batch(probe, self.arguments.batches):
            self.result["lm_eval_probe"] = {"dialogues": len(probe.dialogues), "seconds_by_batch": seconds}
            write_result(self.arguments.out, self.result)
        return min(seconds, key=lambda batch: seconds[batch])

    def ours(self, job: Job) -> None:
        self.harness.append(by_harness(job))
        self.result["harness"] = [done.summary() for done in self.harness]

    def theirs(self, job: Job, batch: int) -> None:
        """Keep a minute and a half for the limits; variants that were not reached are not counted on either side."""
        done = by_lm_eval(job, batch, deadline=time.perf_counter() + self.left() - 150)
        self.result["lm_eval"] = {"batch": batch, **done.summary()}
        self.result["agreement_with_lm_eval"] = agreement(self.harness[0], done)
        if len(done.parts) == len(job.variants):
            self.result["times_faster"] = done.seconds / self.harness[0].seconds

    def limits(self, job: Job) -> None:
        cuda = self.device.startswith("cuda")
        limits = measured_limits(self.device)
        self.result["limits"] = limits
        release(self.device)
        pool = SharedPool(job.variants, self.device)
        self.result["decode"] = {}
        for variant in job.variants[:2]:
            with pool.use(variant) as loaded:
                for rows in (1, 64, 256) if variant.kind == "base" else (1, 64):
                    found = decode_against_roofline(loaded, job.dialogues, rows, limits, graphs=cuda)
                    self.result["decode"][f"{variant.name} at {rows}"] = found
                    write_result(self.arguments.out, self.result)
                    release(self.device)
                found = generation_profile(loaded, job.dialogues[:512], graphs=cuda)
                self.result.setdefault("profile", {})[variant.name] = found
                release(self.device)
                if variant.kind == "base":
                    self.result["scoring"] = scoring_utilisation(loaded, job.dialogues[:512], limits)
                count = self.arguments.eager
                self.result[f"agreement_with_eager_{variant.name}"] = agreement_with_eager(
                    loaded, job.dialogues[:count], 64
                )
                write_result(self.arguments.out, self.result)
        pool.close()

    def table(self) -> str:
        """The numbers that matter, short."""
        keys = ("times_faster", "lm_eval_probe", "harness", "lm_eval", "limits", "decode", "profile", "scoring")
        keys += ("agreement_with_lm_eval", "agreement_with_eager_base", "agreement_with_eager_adapter", "parts_seconds")
        return "\n".join(f"{key}: {json.dumps(_short(self.result[key]))}" for key in keys if key in self.result)


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
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/lm_eval_gpu.json"))
    parser.add_argument("--scratch", type=Path, default=None, help="where the models are written (29 GB at 7b)")
    parser.add_argument("--dialogues", type=int, default=1024)
    parser.add_argument("--probe", type=int, default=128)
    parser.add_argument("--batches", type=int, nargs="+", default=[32, 128, 256])
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--eager", type=int, default=10, help="dialogues decoded at batch 1 by plain generate")
    parser.add_argument("--seconds", type=float, default=540)
    return parser.parse_args()


if __name__ == "__main__":
    main()
