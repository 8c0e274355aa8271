"""The origin of the run's figures: inputs, versions, machine, seeds, checks, warnings and skipped dialogues."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from harness.results.recipes import by_recipe
from harness.store.seals import numbers_digest
from reports.coverage import coverage_cells
from reports.escape import shorten
from reports.numbers import plain
from reports.view import RunView

_SHOWN_APART = {"versions", "hardware", "git", "seeds", "machine_state", "roofline"}


@dataclass(frozen=True)
class Facts:
    """A titled list of names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]
    absent: str = ""


@dataclass(frozen=True)
class Provenance:
    """The contents of the section; sanity checks and coverage are separate tables."""

    facts: tuple[Facts, ...]
    variants: tuple[tuple[str, ...], ...]
    sanity: tuple[tuple[bool, str, str, str], ...]
    warnings: tuple[str, ...]
    events: tuple[str, ...]
    coverage: tuple[tuple[str, ...], ...]
    config: str


def provenance(view: RunView) -> Provenance:
    """Collect what ``run.json`` and the summary say about the run itself."""
    manifest, known = view.manifest, view.manifest.provenance
    run = [
        ("run", view.name),
        ("state", manifest.state),
        ("started", manifest.started),
        ("finished", manifest.finished or "not finished"),
        ("template", manifest.template or ""),
        ("template digest", manifest.template_digest or ""),
        ("config digest", manifest.config_digest),
        ("numbers (SHA-256 of summary.json)", numbers_digest(view.folder) or ""),
        ("reference variant", view.reference or ""),
        ("error", manifest.error or ""),
    ]
    further = {key: value for key, value in known.items() if key not in _SHOWN_APART}
    facts = (
        Facts("Run", tuple((name, value) for name, value in run if value)),
        _facts("Versions", known.get("versions"), "No versions were recorded."),
        _facts("Machine", known.get("hardware"), "The machine was not recorded."),
        _facts(
            "State of the machine",
            known.get("machine_state"),
            "The state of the machine (clocks, temperature, other processes) was not recorded.",
        ),
        _facts("Source code", known.get("git"), "No git commit was recorded."),
        _facts("Seeds", known.get("seeds"), "No seeds were recorded."),
        _facts("Digests of the inputs", manifest.digests, "No digests were recorded."),
        _facts("Held-out dialogues", manifest.held_out, "No counts were recorded."),
        *([_facts("Further", further, "")] if further else []),
    )
    return Provenance(
        facts=facts,
        variants=tuple(_variant(row) for row in manifest.variants),
        sanity=tuple((check.ok, check.name, check.variant or "all", check.detail) for check in manifest.sanity),
        warnings=(*manifest.warnings, *by_recipe(manifest.variants, manifest.digests).left_out),
        events=tuple(_event(event) for event in manifest.events[:200]),
        coverage=tuple(
            (
                one.variant,
                one.answered,
                one.share or "–",
                one.interval or "–",
                one.skipped,
                "; ".join(one.absent) or "–",
            )
            for one in coverage_cells(view)
        ),
        config=shorten_block(json.dumps(manifest.config, indent=1, ensure_ascii=False, default=str)),
    )


def _facts(title: str, raw: object, absent: str) -> Facts:
    if not isinstance(raw, Mapping) or not raw:
        return Facts(title, (), absent)
    return Facts(title, tuple((str(key), _flat(value)) for key, value in list(raw.items())[:100]))


def _flat(value: object) -> str:
    """Return a value of any shape as one line of text."""
    if isinstance(value, Mapping):
        return shorten("; ".join(f"{key}: {_flat(inner)}" for key, inner in value.items()), 600)
    if isinstance(value, (list, tuple)):
        return shorten(", ".join(_flat(inner) for inner in value), 600) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return plain(value)
    return "not recorded" if value is None else shorten(str(value), 600)


def _event(event: Mapping[str, object]) -> str:
    """Return the kind of event and its details."""
    details = {key: value for key, value in event.items() if key != "kind"}
    kind = str(event.get("kind", "event")).replace("_", " ")
    return f"{kind} – {_flat(details)}" if details else kind


def _variant(row: Mapping[str, object]) -> tuple[str, ...]:
    keys = ("name", "kind", "quantization", "dtype", "merge_strategy", "model", "adapter")
    known = dict(row)
    if row.get("url") is not None:  # its server chooses how it computes
        known |= {"model": f"{row.get('model')} at {row['url']}", "quantization": None, "dtype": None}
    shown = tuple(_flat(known[key]) if known.get(key) is not None else "–" for key in keys)
    digests = [f"{key.removesuffix('_digest')} {row[key]}" for key in row if key.endswith("_digest") and row[key]]
    return (*shown, "; ".join(digests) or "–")


def shorten_block(text: str, limit: int = 20_000) -> str:
    """Return a block of text, truncated with a note if it is longer than ``limit``."""
    return text if len(text) <= limit else f"{text[:limit]}\n… {len(text) - limit:,} more characters are in run.json"
