"""The whole command, as typed: ``harness run`` and lm-evaluation-harness's command line as processes, in turns.

    python -m benchmarks.peers.whole_command --model MODEL --data MEDQUAD.jsonl --out cpu.json
    python -m benchmarks.peers.whole_command --device cuda:0 --scratch DIR --out gpu.json

Parts (``--parts`` picks some; their order is fixed):

- ``quality``: base, adapter and merged, scoring and generation, ``--repeats`` times. The first of a call has an empty
  cache of digests (``HARNESS_CACHE``), the others what it left there; each of the parts below has an empty one;
- ``lm-eval``: the same strings through lm-eval, one process a variant as its command line does it, after each of ours;
- ``stages``: where the time of ``quality`` goes, once more with clocks inside (``staged_run``);
- ``fidelity``: ``quality`` with the fidelity pass;
- ``finetune``: base, base-nf4, the adapter over nf4 and merged, as ``finetune run`` leaves them; all passes but latency
  over ``--few`` dialogues, with clocks. For CUDA: nf4 on a CPU takes minutes.

The models are made first, by a process of its own, and kept in ``--scratch``: the next call with the same one starts at
once. Results of parts that a call does not run stay in ``--out``.

Both tools read the same prompts. Their metrics differ: lm-eval computes accuracy of the reference (its perplexity
overflows on long replies), BLEU and chrF; the harness its default metrics with intervals, and the page.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.machine import provenance, write_result
from benchmarks.peers.whole_job import ADAPTER_OVER_NF4, TASKS, WholeJob, made_in

PARTS = ("quality", "lm-eval", "stages", "fidelity", "finetune")
QUALITY = ("scoring", "generation")


@dataclass(frozen=True)
class Ended:
    """A process that ended well: seconds from its start to its end, and the most memory it or a child of it held."""

    seconds: float
    peak_rss_mib: float

    def summary(self) -> dict[str, float]:
        return {"seconds": round(self.seconds, 2), "peak_rss_mib": round(self.peak_rss_mib)}


def main() -> int:
    """Read the options, run the parts and write their results."""
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = arguments.scratch or Path(temporary)
        job = made_in(scratch / "job", arguments)
        bench = Bench(arguments, job, Path(temporary))
        bench.run()
    print(bench.table())
    return 0


class Bench:
    """The parts, each written down as it ends."""

    def __init__(self, arguments: argparse.Namespace, job: WholeJob, scratch: Path) -> None:
        self.arguments, self.job, self.scratch = arguments, job, scratch
        # In a process of its own: this one must hold no memory of the GPU.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            measured_on = pool.apply(provenance, (job.device,))
        command = " ".join([Path(sys.executable).name, *sys.orig_argv[1:]])
        threads = arguments.threads or os.cpu_count()
        measured_on["versions"]["lm_eval"] = _version_of_lm_eval(arguments.lm_eval_python)
        self.provenance = {**measured_on, "command": command, "threads": threads}
        self.result: dict[str, Any] = {}
        if arguments.out.is_file():
            before = json.loads(arguments.out.read_text(encoding="utf-8"))
            self.result = before if before.get("job") == job.summary() else {}
        self.result |= {"what": "whole commands, as processes", "job": job.summary()}

    def run(self) -> None:
        """Run the parts that were asked for; each result is written as soon as it is known."""
        parts, turns = self.arguments.parts, self.arguments.repeats
        if "quality" in parts:
            self.result["quality"] = []
        if "lm-eval" in parts:
            self.result["lm_eval"] = []
        for turn in range(turns if {"quality", "lm-eval"} & set(parts) else 0):
            if "quality" in parts:
                self.keep("quality", self.ours(f"quality-{turn}", QUALITY), append=True)
            if "lm-eval" in parts and turn < self.arguments.lm_eval_repeats:
                self.keep("lm_eval", self.theirs(turn), append=True)
        if "stages" in parts:
            self.keep("stages", self.ours("stages", QUALITY, clocks=True))
        if "fidelity" in parts:
            self.keep("fidelity", self.ours("fidelity", (*QUALITY, "fidelity"), clocks=True))
        if "finetune" in parts:
            passes = (*QUALITY, "fidelity", "memory")
            self.keep("finetune", self.ours("finetune", passes, variants=ADAPTER_OVER_NF4, clocks=True, few=True))

    def keep(self, part: str, found: dict[str, Any], *, append: bool = False) -> None:
        """Write a part's result, with where and how it was measured, and the comparison as far as it goes."""
        found["provenance"] = self.provenance
        self.result[part] = [*self.result[part], found] if append else found
        ours, theirs = self.result.get("quality", []), self.result.get("lm_eval", [])
        if ours and theirs:
            medians = [statistics.median(one["seconds"] for one in runs) for runs in (ours, theirs)]
            self.result["seconds"] = dict(zip(("harness", "lm_eval"), medians, strict=True))
            self.result["times_faster"] = medians[1] / medians[0]
            self.result["agreement"] = agreement(ours[-1].pop("answers", None), theirs[-1].pop("answers", None)) or (
                self.result.get("agreement")
            )
        written = {key: _without_answers(value) for key, value in self.result.items()}
        write_result(self.arguments.out, written)
        print(f"{part}: {found['seconds']:.1f} s", flush=True)

    def ours(
        self,
        name: str,
        passes: Sequence[str],
        *,
        variants: Sequence[dict[str, Any]] | None = None,
        clocks: bool = False,
        few: bool = False,
    ) -> dict[str, Any]:
        """Run ``harness run`` into a new folder; ``clocks`` adds where the time went."""
        out, stages = self.scratch / name, self.scratch / f"{name}.stages.json"
        limit = self.arguments.few if few else None
        config = self.job.config(self.scratch / f"{name}.yaml", passes, variants, limit)
        module = ["benchmarks.peers.staged_run", str(stages)] if clocks else ["harness", "run"]
        ended = self.process(name, [sys.executable, "-m", *module, str(config), "--out", str(out)])
        found: dict[str, Any] = {**ended.summary(), "passes": list(passes)}
        if clocks:
            found["stages"] = json.loads(stages.read_text(encoding="utf-8"))
        if not few:
            found["answers"] = {one: _rows(out / "replies" / f"{one}.jsonl") for one in self.job.names}
        shutil.rmtree(out)
        return found

    def theirs(self, turn: int) -> dict[str, Any]:
        """Run lm-eval's command line for each variant."""
        python = self.arguments.lm_eval_python
        by_variant, answers = {}, {}
        for variant in self.job.variants:
            out = self.scratch / f"lm-eval-{turn}-{variant['name']}"
            model = f"pretrained={variant['model']},dtype={variant['dtype']}"
            if variant.get("adapter"):
                model += f",peft={variant['adapter']}"
            command = [
                python, "-m", "lm_eval", "run", "--model", "hf", "--model_args", model, "--tasks", *TASKS,
                "--include_path", str(self.job.folder / "tasks"), "--batch_size", str(self.arguments.batch),
                "--device", self.job.device, "--output_path", str(out), "--log_samples",
            ]  # fmt: skip
            by_variant[variant["name"]] = self.process(out.name, command).summary()
            answers[variant["name"]] = lm_eval_rows(out)
            shutil.rmtree(out)
        seconds = sum(one["seconds"] for one in by_variant.values())
        return {"seconds": seconds, "batch": self.arguments.batch, "variants": by_variant, "answers": answers}

    def process(self, name: str, command: list[str]) -> Ended:
        """Run a command to its end; raise RuntimeError with the end of its output if it fails."""
        environment = {
            **os.environ,
            "HARNESS_CACHE": str(self.scratch / "caches" / name.partition("-")[0]),
            "HF_HUB_OFFLINE": "1",
            "HF_DATASETS_CACHE": str(self.scratch / f"{name}.datasets"),
            "TOKENIZERS_PARALLELISM": "false",
            "OMP_NUM_THREADS": str(self.arguments.threads or os.cpu_count()),
        }
        log = self.scratch / f"{name}.log"
        with log.open("wb") as written:
            started = time.perf_counter()
            child = subprocess.Popen(command, stdout=written, stderr=written, env=environment)
            _, status, usage = os.wait4(child.pid, 0)
            seconds = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"{name} ended with exit code {child.returncode}: {' '.join(command)}\n{end}")
        return Ended(seconds, usage.ru_maxrss / 1024)

    def table(self) -> str:
        """Return the results as Markdown."""
        ours, theirs = self.result.get("quality", []), self.result.get("lm_eval", [])
        lines = ["| command | seconds | peak memory of a process |", "|---|---|---|"]
        for index, run in enumerate(ours):
            lines.append(f"| harness run, run {index + 1} | {run['seconds']:.1f} | {run['peak_rss_mib']:,.0f} MiB |")
        for run in theirs:
            peak = max(one["peak_rss_mib"] for one in run["variants"].values())
            lines.append(f"| lm-eval, {len(run['variants'])} processes | {run['seconds']:.1f} | {peak:,.0f} MiB |")
        for part in ("fidelity", "finetune"):
            if part in self.result:
                found = self.result[part]
                lines.append(f"| {part} | {found['seconds']:.1f} | {found['peak_rss_mib']:,.0f} MiB |")
        if "times_faster" in self.result:
            lines.append(f"\n{self.result['times_faster']:.2f} times faster. Agreement: {self.result['agreement']}")
        clocked = {part: self.result[part]["stages"]["seconds"] for part in PARTS[2:] if part in self.result}
        if clocked:
            stages = list(dict.fromkeys(stage for one in clocked.values() for stage in one))
            lines += ["", f"| stage | {' | '.join(clocked)} |", "|---" * (len(clocked) + 1) + "|"]
            for stage in stages:
                spent = (f"{one[stage]:.1f} s" if stage in one else "–" for one in clocked.values())
                lines.append(f"| {stage} | {' | '.join(spent)} |")
        return "\n".join(lines)


def _version_of_lm_eval(python: str) -> str | None:
    """Return the version that an interpreter has; None if it has none."""
    ask = "from importlib.metadata import version; print(version('lm_eval'))"
    found = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def _rows(path: Path) -> dict[str, tuple[float, str]]:
    """Return nll and reply by dialogue from a run's replies."""
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return {row["id"]: (row["nll"], row["reply"]) for row in rows}


def lm_eval_rows(folder: Path) -> dict[str, tuple[float, str]]:
    """Return nll and reply by dialogue from lm-eval's samples."""
    scores: dict[str, float] = {}
    replies: dict[str, str] = {}
    for file in folder.rglob("samples_*.jsonl"):
        for row in (json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()):
            answer = row["resps"][0][0]
            if TASKS[0] in file.name:
                scores[row["doc"]["id"]] = -float(answer[0] if isinstance(answer, list) else answer)
            else:
                replies[row["doc"]["id"]] = answer
    return {name: (scores[name], replies[name]) for name in scores}


def agreement(ours: Any, theirs: Any) -> dict[str, float] | None:
    """Return how far the two tools' numbers and replies agree."""
    if not ours or not theirs:
        return None
    pairs = [(mine, theirs[name][key]) for name, rows in ours.items() for key, mine in rows.items()]
    return {
        "dialogues": len(pairs),
        "largest_relative_nll_difference": max(abs(a[0] - b[0]) / max(abs(b[0]), 1e-9) for a, b in pairs),
        "identical_replies": sum(a[1].strip() == b[1].strip() for a, b in pairs) / len(pairs),
    }


def _without_answers(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_answers(one) for one in value]
    return {key: one for key, one in value.items() if key != "answers"} if isinstance(value, dict) else value


def _parts(text: str) -> tuple[str, ...]:
    asked = [part.strip() for part in text.split(",")]
    unknown = [part for part in asked if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(unknown)}: there are {', '.join(PARTS)}")
    return tuple(part for part in PARTS if part in asked)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", type=Path, help="CPU: a folder with a small model")
    parser.add_argument("--data", type=Path, help="CPU: JSON lines with instruction and output")
    parser.add_argument("--shape", default="7b", help="CUDA: the random model's geometry, 7b or tiny")
    parser.add_argument("--dialogues", type=int, help="default: 64 on a CPU, 1,024 on CUDA")
    parser.add_argument("--few", type=int, default=48, help="dialogues of the part finetune")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--parts", type=_parts, default=PARTS[:4], help=f"of {', '.join(PARTS)}, with commas between")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--lm-eval-repeats", type=int, default=3, help="lm-eval's turns, if fewer than --repeats")
    parser.add_argument("--lm-eval-python", default=sys.executable, help="an interpreter that has lm-eval")
    parser.add_argument("--batch", type=int, help="lm-eval's batch size; default: 16 on a CPU, 128 on CUDA")
    parser.add_argument("--threads", type=int, help="OMP_NUM_THREADS of both; default: the machine's cores")
    parser.add_argument("--scratch", type=Path, help="where the models are kept (29 GB at 7b); default: nowhere")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    cpu = arguments.device == "cpu"
    if cpu and not (arguments.model and arguments.data):
        parser.error("on a CPU, --model and --data are required")
    arguments.dialogues = arguments.dialogues or (64 if cpu else 1024)
    arguments.batch = arguments.batch or (16 if cpu else 128)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
