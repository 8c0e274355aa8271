"""What is exported of a run: its figures with their intervals and its settings, without any path of the machine."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.errors import HarnessError, InputError
from harness.store import seals
from harness.store.baselines import gate_verdict
from harness.store.folder import RunFolder
from harness.store.paths import without_paths
from harness.store.schema import RunManifest, SetSummary, Summary

_SERVER = ("url", "api_key_env", "allow_http")  # of a served variant


@dataclass(frozen=True)
class Figure:
    """A value in ``unit`` with the ends of its 95 % interval (None if it has none), over ``n`` dialogues or requests.

    ``against`` is the variant that a difference (``relative``: a ratio) was computed against; ``set`` the further
    held-out set that it is of, empty for the run's first.
    """

    metric: str
    value: float
    low: float | None
    high: float | None
    n: int
    unit: str = ""
    higher_is_better: bool | None = None
    signature: str = ""
    label: str = ""
    against: str | None = None
    relative: bool = False
    set: str = ""

    @property
    def key(self) -> str:
        """The name under which trackers keep it: letters, digits, ``.``, ``_``, ``-`` and ``/`` alone.

        ``latency.itl_ms.p50[engine=eager,batch=2]`` becomes ``latency.itl_ms.p50/engine-eager/batch-2``, and that of a
        further set begins with ``sets/NAME/``.
        """
        name = f"sets/{self.set}/" if self.set else ""
        name += self.metric.replace("[", "/").replace(",", "/").replace("]", "").replace("=", "-")
        if self.against is not None:
            name += f"/{'ratio-to' if self.relative else 'minus'}-{self.against}"
        return re.sub(r"[^\w./-]", "_", name, flags=re.ASCII)

    def values(self) -> dict[str, float]:
        """Return the value, and the interval's ends where it has them, by the tracker's names."""
        named = {"": self.value, ".low": self.low, ".high": self.high}
        return {self.key + end: value for end, value in named.items() if value is not None}


@dataclass(frozen=True)
class ExportedRun:
    """A finished run as it is exported. ``manifest`` has no absolute paths of the machine."""

    folder: RunFolder
    manifest: RunManifest
    summary: Summary
    numbers: str  # the digest of summary.json
    verdict: str  # the gate's, or "none"

    @property
    def name(self) -> str:
        """The run folder's name, with its parent's where that is only ``run``."""
        root = self.folder.root.resolve()
        return f"{root.parent.name}-{root.name}" if root.name == "run" else root.name

    @property
    def variants(self) -> dict[str, dict[str, object]]:
        """What ``run.json`` says of each variant, by name."""
        return {str(variant["name"]): variant for variant in self.manifest.variants}

    @property
    def sets(self) -> dict[str, Summary | SetSummary]:
        """The numbers of each held-out set by its name; those of the first, or the only one, under no name."""
        known = self.summary.sets
        return {"": self.summary, **{name: known[name] for name in self.manifest.sets[1:] if name in known}}

    def figures(self, variant: str) -> list[Figure]:
        """Return everything measured of a variant: on each set its metrics, then its differences from others."""
        return [figure for name, summary in self.sets.items() for figure in _figures(summary, variant, name)]

    def values(self, variant: str) -> dict[str, float]:
        """Return the values and intervals' ends of everything measured of a variant, by the trackers' names."""
        return {key: value for figure in self.figures(variant) for key, value in figure.values().items()}

    def settings(self) -> dict[str, str]:
        """Return the run's config, its recipe and the versions it ran with, as flat text by dotted key."""
        recipe = self.manifest.training.get("recipe")
        provenance = {key: self.manifest.provenance.get(key) for key in ("versions", "device", "git")}
        config = {key: value for key, value in self.manifest.config.items() if key != "variants"}
        values = {"config": config, "recipe": recipe, **provenance}
        return dict(_flat({key: value for key, value in values.items() if value}))

    def variant_settings(self, variant: str) -> dict[str, str]:
        """Return what ``run.json`` says of a variant, as flat text by key, but not at which server it is."""
        return dict(_flat({key: value for key, value in self.variants[variant].items() if key not in _SERVER}))

    @property
    def facts(self) -> dict[str, str]:
        """Which numbers these are, and what the gate said of them."""
        return {
            "harness.run": self.name,
            "harness.numbers": self.numbers,
            "harness.config": self.manifest.config_digest,
            "harness.gate": self.verdict,
            "harness.finished": self.manifest.finished or "",
        }

    def data_source(self, of: str = "") -> str:
        """Return where the held-out dialogues, or those of a further set, came from: a Hub ID, or a file's name."""
        sets = self.manifest.config.get("sets")
        stated = sets.get(of) if isinstance(sets, Mapping) else None
        if of and isinstance(stated, Mapping) and isinstance(stated.get("source"), str):
            return str(stated["source"])
        for place in (self.manifest.config, self.manifest.training.get("recipe")):
            dialogues = place.get("dialogues") if isinstance(place, Mapping) else None
            if isinstance(dialogues, Mapping) and isinstance(dialogues.get("source"), str):
                return str(dialogues["source"])
        return "dialogues"


def read_run(folder: RunFolder) -> ExportedRun:
    """Return a finished run; raise HarnessError for one that is not complete or was edited after it was sealed."""
    manifest = folder.read_manifest()
    if manifest.state != "complete":
        raise HarnessError(f"The run in {folder.root} is {manifest.state}; only a complete run can be exported.")
    problems = seals.check(folder, manifest)
    if problems:
        raise HarnessError(f"The run in {folder.root} cannot be exported: {problems[0]}")
    numbers = seals.numbers_digest(folder)
    if numbers is None:
        raise InputError(f"{folder.root} has no summary.json. Run `harness score --run {folder.root}`.")
    return ExportedRun(folder, without_paths(manifest), folder.read_summary(), numbers, gate_verdict(folder))


def _figures(summary: Summary | SetSummary, variant: str, of: str) -> Iterator[Figure]:
    for name, metric in summary.metrics.items():
        row = metric.variants.get(variant)
        if row is not None and row.value is not None:
            yield Figure(
                name,
                row.value,
                row.low,
                row.high,
                row.n,
                metric.unit,
                metric.higher_is_better,
                metric.signature,
                metric.label,
                set=of,
            )
    for one in summary.comparisons:
        if one.variant == variant and one.value is not None:
            yield Figure(
                one.metric, one.value, one.low, one.high, one.n, against=one.against, relative=one.relative, set=of
            )


def _flat(values: Mapping[str, object], before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in values.items():
        name = f"{before}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif value is not None:
            yield name, value if isinstance(value, str) else json.dumps(value)
