"""``python -m tests.fuzz --cases 10000 --seed 1``: as many cases as wanted, and every problem found."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.fuzz.cases import problem
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Run the cases, in turns over the targets; return 1 if any went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--target", action="append", choices=[*TARGETS])
    wanted = parser.parse_args()
    names = wanted.target or [*TARGETS]
    found: Counter[str] = Counter()
    slowest = (0.0, "")
    for number in range(wanted.cases):
        name = names[number % len(names)]
        started = time.process_time()
        wrong = problem(name, number, wanted.seed)
        slowest = max(slowest, (time.process_time() - started, f"{name} {number}"))
        if wrong is not None:
            found[name] += 1
            print(wrong, flush=True)
    print(
        f"{wanted.cases} cases over {len(names)} targets with seed {wanted.seed}: {found.total()} problems; "
        f"the slowest case ({slowest[1]}) took {slowest[0]:.1f} s of processor time"
    )
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
