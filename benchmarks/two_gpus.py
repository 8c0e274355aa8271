"""What a second GPU of a host brings: measuring, placement, latency and training, one process against two.

The models have Llama-2-7B's geometry and random weights, made on the spot and kept in ``--work``. Parts:

- ``passes``: ``harness run`` of base, adapter and merged, scoring and generation, alone and as two processes, in turns
  and with empty caches. The passes' time is that of the slower process, without loading; and the command as typed;
- ``placement``: replies and likelihoods of ``placement: auto`` over both GPUs against those of one GPU;
- ``latency``: medians of a latency pass that ran after two processes had scored, with the other GPU idle, against those
  of a single process, with their intervals;
- ``training``: QLoRA steps by one process and by two (DDP), tokens of replies a second after the first step.

    python -m benchmarks.two_gpus --work DIR --out benchmarks/results/two_gpus_h100.json
    python -m benchmarks.two_gpus --shape tiny --device cpu --dialogues 32 --budget 0.1 --out tiny.json
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.peers.machine import write_result
from harness.store.folder import RunFolder

ALONE, BOTH = 1, 2
LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(BOTH))
MEDIANS = ("latency.ttft_ms.p50", "latency.tpot_ms.p50", "latency.e2e_ms.p50")


def main() -> int:
    """Read the options, run the parts, each written down as it ends."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="two-gpus-") as temporary:
        work = options.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        bench = Bench(options, work)
        for name in options.parts:
            started = time.monotonic()
            bench.result[name] = {**PARTS[name](bench), "provenance": bench.provenance}
            write_result(options.out, bench.result)
            shown = {key: value for key, value in bench.result[name].items() if key != "provenance"}
            print(f"{name}: {time.monotonic() - started:.0f} s {json.dumps(shown)}", flush=True)
    return 0


class Bench:
    """The models and dialogues, and how commands are started over them."""

    def __init__(self, options: argparse.Namespace, work: Path) -> None:
        self.options, self.work = options, work
        self.cuda = options.device != "cpu"
        self.result: dict[str, Any] = {"benchmark": "two_gpus", "shape": options.shape}
        if options.out.is_file():
            self.result |= json.loads(options.out.read_text(encoding="utf-8"))
        started = time.monotonic()
        made = self._python("make", "-c", MAKE, str(work), options.shape, options.device, str(options.dialogues))
        self.models = json.loads((work / "models.json").read_text(encoding="utf-8"))
        print(f"models: {time.monotonic() - started:.0f} s ({made:.0f} s)", flush=True)
        self.provenance = {**self.models.pop("provenance"), "command": " ".join(["python", *sys.orig_argv[1:]])}

    def run(self, name: str, processes: int, **changes: Any) -> dict[str, Any]:
        """Run ``harness run`` with clocks in so many processes; return seconds and stages of each, and the folder."""
        file, out, stages = (self.work / f"{name}{suffix}" for suffix in (".json", "", ".stages"))
        shutil.rmtree(out, ignore_errors=True)
        config = {
            "variants": self.models["variants"],
            "dialogues": {"source": str(self.work / "dialogues.jsonl"), "split": "all", "leakage": "warn"},
            "device": self.options.device,
            "generation": {"max_new_tokens": self.options.max_new_tokens},
            "passes": ["scoring", "generation"],
            **changes,
        }
        file.write_text(json.dumps(config), encoding="utf-8")
        launcher = LAUNCHER if processes > 1 else ()
        seconds = self._python(
            name, *launcher, "-m", "benchmarks.peers.staged_run", str(stages), str(file), "--out", str(out)
        )
        of_each = [Path(f"{stages}.{rank}") for rank in range(processes)] if processes > 1 else [stages]
        clocked = [json.loads(one.read_text(encoding="utf-8"))["seconds"] for one in of_each]
        passes = [sum(took for stage, took in one.items() if stage.startswith("pass: ")) for one in clocked]
        loading = [one.get("loading", 0.0) for one in clocked]
        return {
            "seconds": round(seconds, 2),
            "passes_seconds": round(max(passes), 2),
            "passes_and_loading_seconds": round(max(map(sum, zip(passes, loading, strict=True))), 2),
            "stages": clocked,
            "out": out,
        }

    def _python(self, name: str, *arguments: str) -> float:
        """Run Python with these arguments and an empty cache of digests; return its seconds.

        Raises RuntimeError with the end of its output if it fails.
        """
        threads = (os.cpu_count() or 1) // BOTH
        environment = {
            **os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "HARNESS_CACHE": "off",
            "OMP_NUM_THREADS": str(max(1, threads)),
        }  # fmt: skip
        log = self.work / f"{name}.log"
        started = time.monotonic()
        with log.open("wb") as written:
            code = subprocess.call([sys.executable, *arguments], stdout=written, stderr=written, env=environment)
        if code:
            end = log.read_text(encoding="utf-8", errors="replace")[-3000:]
            raise RuntimeError(f"{name} ended with exit code {code}:\n{end}")
        return time.monotonic() - started

    def passes(self) -> dict[str, Any]:
        """Measure the run with one process and with two, in turns; the fastest round of each counts."""
        rounds: dict[int, list[dict[str, Any]]] = {ALONE: [], BOTH: []}
        for turn in range(self.options.repeats):
            for processes in (ALONE, BOTH):
                rounds[processes].append(self.run(f"passes-{processes}-{turn}", processes))
        compared = agreement(*(RunFolder(rounds[processes][-1]["out"]) for processes in (ALONE, BOTH)))
        best = {
            key: [min(one[key] for one in rounds[n]) for n in (ALONE, BOTH)]
            for key in ("seconds", "passes_seconds", "passes_and_loading_seconds")
        }
        return {
            "dialogues": self.options.dialogues,
            "one": _without_folders(rounds[ALONE]),
            "two": _without_folders(rounds[BOTH]),
            "times_faster": {key.removesuffix("_seconds"): one / two for key, (one, two) in best.items()},
            "agreement": compared,
        }

    def placement(self) -> dict[str, Any]:
        """Compare the replies of a model spread over both GPUs with those of one GPU, in each precision."""
        few = {"limit": self.options.few, "device": "cuda" if self.cuda else "cpu"}
        base = [one for one in self.models["variants"] if one["name"] != "merged"]
        found = {}
        for dtype in ("float32", "bfloat16"):
            variants = [{**one, "dtype": dtype} for one in base]
            runs = {
                how: self.run(f"placement-{how}-{dtype}", ALONE, **few, variants=variants, placement=how)
                for how in ("single", "auto")
            }
            manifest = RunFolder(runs["auto"]["out"]).read_manifest()
            compared = agreement(*(RunFolder(one["out"]) for one in runs.values()))
            events = [event for event in manifest.events if event["kind"] == "slow-path"]
            found[dtype] = {
                "agreement": compared,
                "events": events,
                **{how: _without_folders([one]) for how, one in runs.items()},
            }
        return found

    def latency(self) -> dict[str, Any]:
        """Compare latencies after a shared run, with the other GPU idle, with those of a single process."""
        changes = {
            "limit": self.options.few,
            "passes": ["scoring", "generation", "latency"],
            "variants": [one for one in self.models["variants"] if one["name"] == "base"],
            "latency": {"budget_minutes": self.options.budget},
        }
        found = {n: self.run(f"latency-{n}", n, **changes) for n in (ALONE, BOTH)}
        estimates = {n: medians(RunFolder(one["out"])) for n, one in found.items()}
        devices = {n: RunFolder(one["out"]).read_manifest().provenance["device"] for n, one in found.items()}
        rows = {
            metric: {"one": one, "two": estimates[BOTH][metric], "agree": overlap(one, estimates[BOTH][metric])}
            for metric, one in estimates[ALONE].items()
            if metric in estimates[BOTH]
        }
        return {"medians": rows, "device": devices[ALONE], "device_of_two": devices[BOTH]}

    def training(self) -> dict[str, Any]:
        """Time QLoRA steps with one process and with two."""
        length, batch = (1024, 8) if self.cuda else (256, 2)
        reply = length - 64  # the prompt's template takes less than the rest
        draw = random.Random(0)
        with (self.work / "training.jsonl").open("w", encoding="utf-8") as file:
            for number in range(8 * batch * self.options.steps):
                words = " ".join(f"w{draw.randrange(3, 500)}" for _ in range(reply))
                file.write(
                    json.dumps({"id": str(number), "instruction": f"w{number % 400 + 3}", "output": words}) + "\n"
                )
        found = {}
        for processes in (ALONE, BOTH):
            recipe = {
                "base": self.models["variants"][0]["model"],
                "dialogues": {"source": str(self.work / "training.jsonl")},
                "quantization": "nf4" if self.cuda else "none",
                "device": self.options.device,
                "max_length": length,
                "evaluation": {"interval": 1000, "dialogues": 0},
                "training": {
                    "per_device_train_batch_size": batch, "gradient_accumulation_steps": 2, "logging_steps": 1,
                    "max_steps": self.options.steps,
                },
            }  # fmt: skip
            file, out = self.work / f"training-{processes}.json", self.work / f"training-{processes}"
            stamps = self.work / f"training-{processes}.stamps"
            for old in (stamps, out):
                shutil.rmtree(out, ignore_errors=True) if old == out else old.unlink(missing_ok=True)
            file.write_text(json.dumps(recipe), encoding="utf-8")
            launcher = LAUNCHER if processes > 1 else ()
            module = ("-m", "benchmarks.stamped_training", str(stamps), "train", str(file), "--out", str(out))
            self._python(f"training-{processes}", *launcher, *module)
            at = [float(line) for line in stamps.read_text(encoding="ascii").splitlines()]
            step = (at[-1] - at[0]) / (len(at) - 1)
            # finetune keeps the effective batch: two processes accumulate half as often.
            found[processes] = {
                "seconds_per_step": step,
                "reply_tokens_per_s": 2 * batch * reply / step,
                "steps": len(at),
            }
        faster = found[BOTH]["reply_tokens_per_s"] / found[ALONE]["reply_tokens_per_s"]
        return {"one": found[ALONE], "two": found[BOTH], "times_faster": faster}


PARTS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "passes": Bench.passes,
    "placement": Bench.placement,
    "latency": Bench.latency,
    "training": Bench.training,
}

# In a process of its own, which gives the GPU's memory back.
MAKE = """
import json, sys
from pathlib import Path
from benchmarks.peers.machine import provenance
from benchmarks.peers.random_models import SHAPES, make_variants, random_dialogues
from harness.store.provenance import gpu_facts
work, shape, device, count = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
asked = {"shape": shape, "device": device}
file = work / "models.json"
found = json.loads(file.read_text()) if file.is_file() else {}
if found.get("asked") != asked:
    variants, about = make_variants(work, shape, "cuda:0" if device != "cpu" else "cpu")
    found = {"asked": asked, "variants": [one.model_dump(mode="json", exclude_none=True) for one in variants], **about}
found["provenance"] = {**provenance("cuda:0" if device != "cpu" else "cpu"), "gpus": gpu_facts()}
rows = random_dialogues(count, SHAPES[shape]["vocab_size"])
lines = [json.dumps({"id": row.id, "instruction": row.prompt, "output": row.reference}) for row in rows]
(work / "dialogues.jsonl").write_text("\\n".join(lines) + "\\n")
file.write_text(json.dumps(found))
"""


def agreement(one: RunFolder, other: RunFolder) -> dict[str, Any]:
    """Return how many replies of two runs are the same, and how far their likelihoods are apart."""
    names = [variant["name"] for variant in one.read_manifest().variants]
    pairs = [
        pair for name in names for pair in zip(one.replies(name), other.replies(name), strict=True)
    ]  # both in the dialogues' order
    apart = [
        abs(mine.nll - theirs.nll) / max(abs(theirs.nll), 1e-9)
        for mine, theirs in pairs
        if mine.nll is not None and theirs.nll is not None
    ]
    return {
        "replies": len(pairs),
        "same_replies": sum(mine.reply == theirs.reply for mine, theirs in pairs),
        "likelihoods": len(apart),
        "largest_relative_nll_difference": max(apart, default=None),
        "same_summary": one.summary_path.read_bytes() == other.summary_path.read_bytes(),
    }


def medians(folder: RunFolder) -> dict[str, list[float | None]]:
    """Return the low end, value and high end of each latency median of the run's only variant."""
    return {
        name: [estimate.low, estimate.value, estimate.high]
        for name, metric in folder.read_summary().metrics.items()
        if name.startswith(MEDIANS)
        for estimate in metric.variants.values()
    }


def overlap(one: list[float | None], other: list[float | None]) -> bool | None:
    """Return whether two intervals (low, value, high) overlap; None where one has no ends."""
    if one[0] is None or one[2] is None or other[0] is None or other[2] is None:
        return None
    return one[0] <= other[2] and other[0] <= one[2]


def _without_folders(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{key: value for key, value in one.items() if key != "out"} for one in runs]


def _parts(text: str) -> tuple[str, ...]:
    asked = [part.strip() for part in text.split(",")]
    unknown = [part for part in asked if part not in PARTS]
    if unknown:
        raise argparse.ArgumentTypeError(f"no part is called {', '.join(unknown)}: there are {', '.join(PARTS)}")
    return tuple(asked)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--parts", type=_parts, default=tuple(PARTS), help=f"of {', '.join(PARTS)}, with commas between"
    )
    parser.add_argument("--shape", choices=("7b", "tiny"), default="7b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dialogues", type=int, default=1024)
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=1, help="turns of the part passes; the best of each counts")
    parser.add_argument("--few", type=int, default=32, help="dialogues of the parts placement and latency")
    parser.add_argument("--budget", type=float, default=0.5, help="minutes of each latency pass")
    parser.add_argument("--steps", type=int, default=6, help="of each training; the first is not timed")
    parser.add_argument("--work", type=Path, help="folder for models (27 GB for 7b) and runs; default a temporary one")
    parser.add_argument("--out", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
