"""The quickstart built over and over, with other seeds, threads and instruction sets: does each build pass its gate?

    python -m benchmarks.demo_builds --out demo_builds.json

Prints a line a build. What an adapter learns must not be luck of the machine's arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.peers.machine import provenance

# What makes PyTorch, oneDNN and MKL (and bitsandbytes, which asks PyTorch) do without AVX-512 and AMX.
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
BUILDS = (
    (42, 1, False),
    (42, 2, False),
    (42, 4, False),
    (42, 1, True),
    (42, 2, True),
    (1, 1, False),
    (2, 2, True),
    (3, 4, False),
    (4, 1, True),
    (3, 2, True),
    (1, 4, True),
    (2, 1, False),
)
METRICS = (
    "quality.names_condition",
    "quality.names_first_drug",
    "safety.unsupported_medications",
    "safety.missed_emergency",
    "quality.nll",
    "quality.rouge_l",
)


def build(seed: int, threads: int, avx2: bool) -> dict[str, Any]:
    """Fine-tune, measure and gate once, in processes of their own; return what the gate said and the figures."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    environment |= AVX2 if avx2 else {}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        made, run = Path(scratch) / "made", Path(scratch) / "run"

        def python(*arguments: str) -> int:
            command = [sys.executable, "-m", *arguments]
            return subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=False).returncode

        python("finetune", "run", "quickstart", "--out", str(made), "--set", f"seed={seed}")
        variants = ("--set", "finetune=null", "--set", f"variants={made / 'variants.json'}")
        python("harness", "run", "quickstart", "--out", str(run), *variants)
        code = python("harness", "gate", str(run), "--thresholds", "quickstart")
        metrics = json.loads((run / "summary.json").read_text())["metrics"]
        gate = json.loads((run / "gate.json").read_text())
    return {
        "seed": seed,
        "threads": threads,
        "instructions": "AVX2" if avx2 else "all",
        "gate": code,
        "not_passed": [check["id"] for check in gate["checks"] if check["verdict"] != "pass"],
        "seconds": round(time.monotonic() - started, 1),
        "metrics": {name: metrics[name]["variants"] for name in METRICS},
    }


def line(found: dict[str, Any]) -> str:
    """Return a build as a line: gate's exit code, then adapter (base) of each metric."""
    cells = [f"{name.split('.')[1]} {_pair(found['metrics'][name])}" for name in METRICS]
    head = f"seed {found['seed']:>2}, {found['threads']} threads, {found['instructions']:>4}: exit {found['gate']}"
    return "; ".join([head, *cells, *found["not_passed"]])


def _pair(variants: dict[str, Any]) -> str:
    return f"{variants['adapter']['value']:.3f} ({variants['base']['value']:.3f})"


def main() -> None:
    """Run the builds one after the other and write what they gave."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--builds", type=int, default=len(BUILDS), help="only the first N")
    options = parser.parse_args()
    machine, results = provenance("cpu"), []
    for seed, threads, avx2 in BUILDS[: options.builds]:
        results.append(build(seed, threads, avx2))
        print(line(results[-1]), flush=True)
        report = {"benchmark": "demo_builds", "provenance": machine, "builds": results}
        options.out.write_text(json.dumps(report, indent=1) + "\n")
    sys.exit(any(found["gate"] for found in results))


if __name__ == "__main__":
    main()
