"""Time and host memory of the quality pass against the number of dialogues; each size in a fresh process.

The line is straight where the slopes from size to size are alike. Memory is the process's peak when the pass ended.

python -m benchmarks.growth --model MODEL --out benchmarks/results/growth_cpu.json
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.peers.machine import provenance, write_result


def main() -> None:
    """Read the options, run the benchmark and write its results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/growth_cpu.json"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256, 1024, 4096])
    parser.add_argument("--max-new-tokens", type=int, default=16)
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one is not None:
        print(json.dumps(_measure(arguments.model, arguments.one, arguments.max_new_tokens)))
        return
    result: dict[str, Any] = {"provenance": provenance("cpu"), "model": arguments.model.name, "sizes": []}
    for size in arguments.sizes:
        command = [sys.executable, "-m", "benchmarks.growth", "--model", str(arguments.model), "--one", str(size)]
        command += ["--max-new-tokens", str(arguments.max_new_tokens)]
        made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        sizes = [*result["sizes"], json.loads(made.splitlines()[-1])]
        result["sizes"] = sizes
        if len(sizes) > 1:
            result["seconds_per_dialogue"] = _slope(sizes[0], sizes[-1], "seconds")
            result["seconds_per_dialogue_from_size_to_size"] = [_slope(a, b, "seconds") for a, b in pairwise(sizes)]
            result["rss_bytes_per_dialogue"] = _slope(sizes[0], sizes[-1], "peak_rss_mib") * 2**20
        write_result(arguments.out, result)
        print(json.dumps(sizes[-1]), flush=True)


def _slope(one: dict[str, Any], other: dict[str, Any], what: str) -> float:
    return float((other[what] - one[what]) / (other["dialogues"] - one["dialogues"]))


def _measure(model: Path, count: int, max_new_tokens: int) -> dict[str, Any]:
    import random

    from benchmarks.peers.jobs import Job, by_harness, quiet_libraries
    from harness.store.schema import DialogueRow
    from harness.variants.model import Variant

    quiet_libraries()
    pick = random.Random(0)
    text_of_words = "pain fever the patient takes daily for two weeks treatment includes rest and drugs such as"
    words = text_of_words.split(" ")

    def text() -> str:
        return " ".join(pick.choice(words) for _ in range(pick.randint(10, 60)))

    rows = tuple(DialogueRow(id=str(i), prompt=text() + "\n", reference=text()) for i in range(count))
    variant = Variant(name="base", kind="base", model=str(model), dtype="float32")
    done = by_harness(Job((variant,), rows, max_new_tokens, "cpu"))
    return {"dialogues": count, "seconds": done.seconds, "parts": done.parts, "peak_rss_mib": done.peak_rss_mib}


if __name__ == "__main__":
    main()
