"""Under which conditions each run timed its variants: times and memory are compared only where they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from string import ascii_lowercase

from harness.files import digest_value
from harness.gating.sides import hardware_of, workload_of
from harness.leaderboard.find import FoundRun

MARKED_BY = "latency.tpot_ms.p50"  # its conditions are those of all names without brackets


@dataclass(frozen=True)
class Machine:
    """The conditions of one or several runs. ``mark`` is a letter, empty if all runs have the same conditions."""

    mark: str
    words: str


def machines(runs: Sequence[FoundRun]) -> Mapping[FoundRun, Machine]:
    """Return the conditions of each run that measured times or memory."""
    timed = [run for run in runs if any(name.startswith(("latency.", "memory.")) for name in run.summary.metrics)]
    keys = {run: _key(run) for run in timed}
    kinds = list(dict.fromkeys(keys.values()))
    hardware = [next(_words(run) for run in timed if keys[run] == kind) for kind in kinds]
    found = {}
    for run in timed:
        place = kinds.index(keys[run])
        also = " with another workload" if hardware[place] in hardware[:place] else ""
        found[run] = Machine("" if len(kinds) < 2 else _letter(place), hardware[place] + also)
    return found


def _key(run: FoundRun) -> str:
    metric = run.summary.metrics.get(MARKED_BY)
    workloads = [workload_of(run.manifest, family) for family in ("latency", "memory")]
    return digest_value([hardware_of(run.manifest), *workloads, metric.conditions if metric else None])


def _words(run: FoundRun) -> str:
    return hardware_of(run.manifest) or "unknown hardware"


def _letter(place: int) -> str:
    return ascii_lowercase[place] if place < len(ascii_lowercase) else str(place + 1)
